"""Rewards in this process: every video has a finite number or a stated failure, whatever a reward does."""

import pickle
import re
import threading
import time

import pytest

from reelwright.training.errors import TrainError
from reelwright.training.rewards.calling import score
from reelwright.training.rewards.contract import Unscored
from reelwright.training.rewards.in_process import InProcess
from reelwright.training.rewards.registry import load
from reelwright.training.rewards.scoring import Clock
from tests.training.rewards.made_up import Hangs, Level, Spoiler, Unready, Waiting, video


def test_scores_come_in_the_order_of_the_videos_at_most_a_batch_per_call() -> None:
    assert score(Level(batch=3), [video(level) for level in range(10)]) == [float(level) for level in range(10)]
    assert score(Level(batch=1), [video(level) for level in range(3)]) == [0.0, 1.0, 2.0]
    assert score(Level(), []) == []


def test_whatever_is_no_finite_number_is_a_stated_failure() -> None:
    found = score(Level(batch=9), [video(level) for level in (90, 91, 92, 93, 94, 95, 7)])
    assert found == [
        Unscored("level is nan"),
        Unscored("level is inf"),
        Unscored("level returned NoneType 'None' in place of a number"),
        Unscored("too dull"),
        Unscored("level returned bool 'True' in place of a number"),
        2.5,
        7.0,
    ]
    assert type(found[5]) is float


def test_an_exception_or_a_wrong_number_of_scores_fails_its_own_call_alone() -> None:
    found = score(Level(batch=2), [video(level) for level in (1, 99, 3, 98, 5)])
    assert found[:2] == [Unscored("level: OSError: the disk is")] * 2
    assert found[2:4] == [Unscored("level returned 1 scores for 2 videos")] * 2
    assert found[4] == 5.0


def test_a_reward_cannot_change_the_frames_that_others_see() -> None:
    mine = video(7)
    (found,) = score(Spoiler(), [mine])
    assert isinstance(found, Unscored)
    assert (mine.frames == 7).all()
    mine.frames[:] = 8  # still the caller's


def test_rewards_run_beside_each_other_while_the_caller_goes_on() -> None:
    waiting = Waiting()
    waiting.__dict__.update(go=threading.Event(), threads=set())
    scorer = InProcess({"slow": waiting, "level": Level()})
    first = scorer.submit([video(1), video(2)])
    second = scorer.submit([video(3)])
    assert second.futures["level"].result(60) == [3.0]  # though "slow" has not answered yet
    assert not first.futures["slow"].done()
    waiting.go.set()
    assert first.result() == {"slow": [1.0, 1.0], "level": [1.0, 2.0]}
    assert second.result() == {"slow": [1.0], "level": [3.0]}
    assert len(waiting.threads) == 1
    scorer.close()


@pytest.mark.waits
def test_one_that_hangs_fails_alone_and_starts_again_in_a_new_thread() -> None:
    Hangs.go.clear()
    scorer = InProcess({"hangs": Hangs(), "level": Level()}, {"hangs": 3.0})
    found = scorer.submit([video(level) for level in (1, 66, 2)]).result()
    assert found["hangs"][1] == Unscored("hangs did not answer in 3 s")
    first, second = found["hangs"][0], found["hangs"][2]
    assert first != second  # numbers of the threads; the first one still hangs
    assert found["level"] == [1.0, 66.0, 2.0]
    figures = scorer.figures()
    assert (figures["hangs/failed"], figures["hangs/restarts"], figures["restarts"]) == (1, 1, 1)
    assert figures["hangs/busy_s"] >= 3
    assert scorer.submit([video(3)], ["hangs"]).result() == {"hangs": [second]}
    assert scorer.figures()["hangs/restarts"] == 0
    scorer.close()
    Hangs.go.set()


@pytest.mark.waits
@pytest.mark.parametrize(
    ("how", "says"),
    [({"unready_again": True}, "the weights are gone"), ({"is_other": True}, r"it was \w+ number \d+, now it is \w+ ")],
)
def test_a_reward_that_cannot_start_again_says_so(how: dict[str, bool], says: str) -> None:
    Hangs.go.clear()
    Hangs.prepared.clear()
    scorer = InProcess({"hangs": Hangs(**how)}, {"hangs": 3.0})
    _, found, again = scorer.submit([video(66), video(2), video(3)]).result()["hangs"]
    assert isinstance(found, Unscored)
    assert re.match(f"hangs was late and cannot start again: {says}", found.why)
    assert isinstance(again, Unscored)
    scorer.close()
    Hangs.go.set()


def test_a_reward_with_limits_of_its_own_has_at_least_those() -> None:
    far = load("service", {"url": "http://127.0.0.1:9", "timeout_s": 9.0, "attempts": 2, "patience_s": 1.0})
    assert far.longest_call_s == 2 * 10 + 1
    assert Level().longest_call_s == 0


def test_a_reward_is_asked_about_the_videos_that_it_is_named_for_alone() -> None:
    scorer = InProcess({"a": Level(batch=1), "b": Level()})
    assert scorer.submit([video(1), video(99)], ["b", "c"]).result()["b"][0] == Unscored("level: OSError: the disk is")
    figures = scorer.figures()
    assert figures["a/busy_s"] == figures["a/idle_s"] == figures["a/failed"] == 0
    scorer.close()


def test_failures_and_seconds_are_counted_per_label_since_the_last_call() -> None:
    scorer = InProcess({"a": Level(batch=1), "b": Spoiler()})
    scorer.submit([video(99), video(1), video(90)]).result()
    figures = scorer.figures()
    assert (figures["a/failed"], figures["b/failed"], figures["restarts"]) == (2, 3, 0)
    assert figures["a/busy_s"] > 0
    assert figures["busy_s"] == pytest.approx(figures["a/busy_s"] + figures["b/busy_s"])
    assert figures["idle_s"] >= 0
    again = scorer.figures()
    assert (again["a/failed"], again["busy_s"]) == (0, 0)
    scorer.close()


def test_time_without_a_video_to_score_is_not_idle() -> None:
    scorer = InProcess({"level": Level(batch=1)})
    time.sleep(0.05)
    began = time.monotonic()
    scorer.submit([video(1), video(2)]).result()
    outstanding_s = time.monotonic() - began
    time.sleep(0.05)
    figures = scorer.figures()
    assert 0 < figures["level/busy_s"] <= figures["level/busy_s"] + figures["level/idle_s"] <= outstanding_s
    scorer.close()


def test_seconds_of_calls_that_overlap_count_once() -> None:
    clock, began = Clock(), time.monotonic()
    clock.begin()
    clock.begin()
    clock.finish()
    first = clock.read()  # one is under way
    clock.finish()
    second = clock.read()
    assert 0 < first + second <= time.monotonic() - began
    assert clock.read() == 0


def test_a_reward_that_cannot_be_prepared_ends_the_start_with_a_sentence() -> None:
    with pytest.raises(TrainError, match=r"reward 'held' \(unready\) cannot start: weights.safetensors is not there"):
        InProcess({"held": Unready()})


def test_a_reward_travels_to_another_process_and_tells_what_it_is() -> None:
    reward = pickle.loads(pickle.dumps(Level(batch=5)))
    assert reward == Level(batch=5)
    scorer = InProcess({"x": reward})
    told = scorer.describe()["x"]
    assert told == {
        "name": "level",
        "version": 1,
        "fingerprint": Level(batch=5).fingerprint,
        "parameters": {"batch": 5},
        "models": [],
    }
    scorer.close()
