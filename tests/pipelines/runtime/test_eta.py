"""The time that is left of a run: near the truth under skewed lengths, and falling while a long film is under way."""

from itertools import pairwise

import pytest

from reelwright.pipelines.annotate.time_ahead import ACTORS, SET, TASKS, Ahead, AnnotatingAhead
from reelwright.pipelines.runtime.eta import LEAST_LEFT, MOST_OVERDUE, Eta, Load, UnderWay, seconds_left_of
from tests.pipelines.runtime.schedules import ASKED_EVERY_S, SCAN_S, Film, Said, Schedule

SHORT = {"duration_s": 10.0, "fps": 25.0, "width": 640, "height": 360}
LONG_S = 7200.0
JUDGED_S, JUDGED_SHARE = 10.0, 0.02  # of a run's end, in which a second is a large part of what is left


def clips(count: int) -> list[Film]:
    """Films of 2.5 to 7.5 s, whose bytes per second differ by three times."""
    return [Film(2.5 + n * 37 % 100 / 20, byte_rate=300_000 + n * 53 % 100 * 7000) for n in range(count)]


def judged(said: list[Said]) -> list[tuple[float, float]]:
    """Return (said, true) but of what nothing is said, and of the end."""
    ends = max(JUDGED_S, JUDGED_SHARE * said[0].true_s)
    return [(one.left_s, one.true_s) for one in said if one.left_s is not None and one.true_s > ends]


def ratios(found: list[tuple[float, float]]) -> tuple[float, float]:
    every = [left / true for left, true in found]
    return min(every), max(every)


def longest_rise(found: list[tuple[float, float]]) -> float:
    """Seconds in which the time left rose from one time to the next."""
    longest = now = 0.0
    for (before, _), (after, _) in pairwise(found):
        now = now + ASKED_EVERY_S if after > before + 1e-6 else 0.0
        longest = max(longest, now)
    return longest


SKEWED = {
    "film first": [Film(LONG_S), *clips(100)],
    "film between": [*clips(50), Film(LONG_S), *clips(50)],
    "film last": [*clips(100), Film(LONG_S)],
    "three films": [*clips(30), Film(LONG_S), *clips(30), Film(3600.0), Film(5400.0), *clips(40)],
    "clips": clips(1000),
}


@pytest.mark.parametrize("workers", [2, 8])
@pytest.mark.parametrize("films", SKEWED.values(), ids=SKEWED)
@pytest.mark.parametrize("slow", [1.0, 3.0], ids=["usual", "slow"])
def test_under_skewed_lengths_the_time_left_is_near_the_truth_and_does_not_rise_for_long(films, workers, slow):
    found = judged(Schedule(films, workers, lambda at: slow).run())
    least, most = ratios(found)
    assert 0.65 < least <= most < 1.35
    assert longest_rise(found) <= 10.0


@pytest.mark.parametrize("workers", [2, 8, 32])
@pytest.mark.parametrize("films", [[Film(LONG_S, parts=12), *clips(100)], [*clips(100), Film(LONG_S, parts=12)]])
def test_a_film_in_parts_counts_as_the_work_of_several(films, workers):
    """Before its length is known, it is taken for one that a single worker scans."""
    said = Schedule(films, workers).run()
    later = [one for one in said if one.at > said[0].true_s / 10]
    least, most = ratios(judged(later))
    assert 0.5 < least <= most < 1.35


def after(workers: int) -> AnnotatingAhead:
    """Tasks, a server that four calls wait for, what reads both, and a set over 300 clips that are there before."""
    works = [Ahead("texture", 0, TASKS, 0.7, stored=300), Ahead("caption", 0, ACTORS, 4.0, workers=4, cpus=0.0),
             Ahead("blur", 0, TASKS, 0.3, stored=50, takes_new=False), Ahead("captions", 1, TASKS, 0.05),
             Ahead("duplicates", 1, SET, 0.02, again=300)]  # fmt: skip
    return AnnotatingAhead(works, workers)


@pytest.mark.parametrize("workers", [2, 8])
@pytest.mark.parametrize("films", SKEWED.values(), ids=SKEWED)
def test_what_is_annotated_after_the_cutting_counts_in_the_time_left(films, workers):
    alone, whole = (judged(Schedule(films, workers, after=some).run()) for some in (None, after(workers)))
    assert whole[0][1] > 1.3 * alone[0][1], "there is much of it"
    least, most = ratios(whole)
    assert 0.65 < least <= most < 1.35
    assert longest_rise(whole) <= 10.0


def test_clips_of_other_lengths_than_those_so_far_are_as_they_turn_out():
    """Films of many short clips come last: until they are read, too few clips are expected."""
    films = [*(Film(60.0, clip_s=10.0) for _ in range(40)), *(Film(60.0, clip_s=2.0) for _ in range(40))]
    said = Schedule(films, 4, after=AnnotatingAhead([Ahead("caption", 0, ACTORS, 4.0, workers=4, cpus=0.0)], 4)).run()
    assert 0.3 < min(ratios(judged(said))) < 0.6, "the first half says nothing of the second"
    least, most = ratios([(left, true) for left, true in judged(said)[-10:]])
    assert 0.9 < least <= most < 1.1


def test_an_annotator_of_unknown_time_and_clips_that_nobody_looked_at_are_named():
    works = [Ahead("caption", 0, ACTORS, None), Ahead("blur", 0, TASKS, None, takes_new=False),
             Ahead("duplicates", 1, SET, None, again=10)]  # fmt: skip
    ahead = AnnotatingAhead(works, 2.0, not_looked_at=4_000_000)
    assert ahead.left_out(5.0) == ["caption", "duplicates", "4,000,000 stored clips"]
    assert ahead.left_out(0.0) == ["4,000,000 stored clips"], "without a new clip there is nothing to do for them"
    assert ahead.seconds(5.0) == 0.0


def test_what_is_left_of_annotating_falls_by_what_is_done_and_goes_by_its_pace():
    ahead = AnnotatingAhead([Ahead("texture", 0, TASKS, 1.0, stored=100), Ahead("caption", 1, TASKS, None, stored=100),
                             Ahead("duplicates", 1, SET, 0.5, stored=20)], 2.0)  # fmt: skip
    assert (ahead.seconds(0.0), ahead.left_out(0.0)) == (60.0, ["caption"])
    few = ahead.left({"texture": 5}, {"texture": 50.0})
    assert few.seconds(0.0) == 95 / 2 + 10.0, "five clips say nothing"
    some = ahead.left({"texture": 60, "caption": 20}, {"texture": 120.0, "caption": 80.0})
    assert (some.seconds(0.0), some.left_out(0.0)) == (40 * 2.0 / 2 + 80 * 4.0 / 2 + 10.0, [])
    stopped = ahead.left({"texture": 100, "caption": 20, "duplicates": 4}, {}, ["caption"])
    assert (stopped.seconds(0.0), stopped.left_out(0.0)) == (8.0, [])


def test_annotators_of_a_level_share_cores_and_gpus_and_none_is_done_before_its_own_workers_are():
    tasks, server = Ahead("texture", 0, TASKS, 2.0), Ahead("caption", 0, ACTORS, 8.0, workers=4, cpus=0.25)
    assert AnnotatingAhead([tasks], 4.0).seconds(10.0) == 5.0
    assert AnnotatingAhead([tasks, server], 4.0).seconds(10.0) == 20.0, "the server's calls last longest"
    assert AnnotatingAhead([tasks, server], 1.0).seconds(10.0) == 40.0, "one core has both to do"
    models = [Ahead(name, 0, ACTORS, 1.0, workers=2, cpus=0.0, gpus=1.0) for name in ("aesthetics", "embedding")]
    assert AnnotatingAhead(models, 8.0, 2.0).seconds(10.0) == 10.0, "two GPUs take turns"
    later = [tasks, Ahead("captions", 1, TASKS, 1.0), Ahead("duplicates", 1, SET, 0.1, again=40)]
    assert AnnotatingAhead(later, 4.0).seconds(10.0) == 5.0 + 2.5 + 5.0


def test_where_no_sizes_are_known_the_time_is_near_the_truth_once_the_film_is_read():
    said = Schedule([*clips(50), Film(LONG_S), *clips(50)], 2, sizes=False).run()
    least, most = ratios(judged([one for one in said if one.at > said[0].true_s / 10]))
    assert 0.95 < least <= most < 1.15


def test_a_machine_that_turns_slow_is_noticed():
    """Twice as slow from a minute on: what is under way outlasts its time, and later work is known to."""
    said = Schedule(SKEWED["three films"], 2, lambda at: 2.0 if at > 60.0 else 1.0).run()
    least, most = ratios(judged(said))
    assert 0.35 < least <= most < 1.1
    assert longest_rise(judged(said)) <= 20.0


@pytest.mark.parametrize("dear", [1.5, 2.0, 4.0])
def test_a_film_that_outlasts_its_time_is_never_done_before_it_is_and_rises_to_a_bound(dear):
    films = [*clips(50), Film(LONG_S, dear=dear), *clips(50)]
    expected_s = films[50].megapixels * SCAN_S
    said = Schedule(films, 8).run()
    scanned = said[0].true_s - 0.375 * expected_s - 120  # the cuts take 3.1 times as long as a usual scan, by 8
    while_late = [one.left_s for one in said if 1.2 * expected_s < one.at < scanned]
    assert min(while_late) > LEAST_LEFT * expected_s
    assert max(while_late) - min(while_late) <= MOST_OVERDUE * expected_s


def test_a_task_falls_by_its_time_and_then_stays_within_bounds():
    left = [seconds_left_of(100.0, float(elapsed)) for elapsed in range(1000)]
    assert left[:91] == [100.0 - elapsed for elapsed in range(91)]
    assert left[100:] == sorted(left[100:]), "it is later the later it is"
    assert (left[100], left[-1]) == (100 * LEAST_LEFT, 100 * MOST_OVERDUE)


def test_nothing_is_said_before_some_clips_are_cut():
    eta = Eta(4)
    loads = [eta.learn(SHORT) for _ in range(4)]
    for load in loads[:3]:
        eta.scanned(load, 1.0)
        assert eta.seconds_left([], 2, 10.0) is None
        eta.cut(load, 1.0, 3.0)
        eta.finish(load)
    assert eta.seconds_left([], 2, 10.0) == pytest.approx(1.0 + 3.0 / 2)
    assert eta.seconds_left([UnderWay((loads[3],), 0.5)], 2, 10.0) == pytest.approx(0.5 + 3.0 / 2)
    eta.scanned(loads[3], 1.0)
    under_way = [UnderWay((loads[3],), 0.5, 0.5), UnderWay((loads[3],), 0.5, 0.5)]
    assert eta.seconds_left(under_way, 2, 10.0) == pytest.approx(1.0)
    eta.finish(loads[3])
    assert eta.seconds_left([], 2, 12.0) == 0.0


def test_duplicates_are_no_work_and_others_may_be_duplicates_too():
    eta = Eta(100)
    for number in range(50):
        load = eta.learn(SHORT)
        if number < 5:
            eta.scanned(load, 1.0)
            eta.cut(load, 1.0, 1.0)
        eta.finish(load)
    assert eta.seconds_left([], 1, 20.0) == pytest.approx(50 * 0.1 * 2.0)


def test_a_row_that_names_no_file_is_no_work():
    eta = Eta(10)
    for number in range(10):
        load = eta.learn(SHORT) if number else Load()
        if number:
            eta.scanned(load, 1.0)
            eta.cut(load, 1.0, 1.0)
        eta.finish(load)
    assert eta.seconds_left([], 1, 20.0) == 0.0


def test_workers_that_others_use_are_not_counted_on():
    """Of ten, the run had two all the time."""
    eta = Eta(1000)
    for _ in range(100):
        load = eta.learn(SHORT)
        eta.scanned(load, 1.0)
        eta.cut(load, 1.0, 1.0)
        eta.finish(load)
    assert eta.seconds_left([], 10, 100.0) == pytest.approx(900.0)


def test_a_still_image_weighs_its_one_picture() -> None:
    assert Eta(1).learn({"is_image": True, "duration_s": 0.0, "fps": 25.0, "width": 2000, "height": 1000}).work == 2.0
