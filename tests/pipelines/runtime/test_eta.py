"""The time that is left of a run."""

import pytest

from reelwright.pipelines.runtime.eta import Eta


def test_the_time_left_goes_by_length_and_not_by_number():
    """Nine short films are done, and one that is a hundred times as long is not."""
    eta = Eta(10)
    short = {"duration_s": 10.0, "fps": 25.0, "width": 640, "height": 360}
    works = [eta.learn(short) for _ in range(9)] + [eta.learn(short | {"duration_s": 1000.0})]
    assert eta.seconds_left(5.0) is None
    for work in works[:9]:
        eta.finish(work)
    assert eta.seconds_left(90.0) == pytest.approx(1000.0)
    eta.finish(works[9])
    assert eta.seconds_left(1090.0) == 0.0


def test_a_long_film_counts_as_far_as_it_is_cut():
    """A run that waits for one film alone: the time left falls with each part of it, and does not rise."""
    eta = Eta(4)
    short = {"duration_s": 10.0, "fps": 25.0, "width": 640, "height": 360}
    works = [eta.learn(short) for _ in range(3)]
    film = eta.learn(short | {"duration_s": 970.0})  # 97 hundredths of the work
    for work in works:
        eta.scan(work)
        eta.cut_part(work, 1.0)
        eta.finish(work, is_scanned=True, cut_share=1.0)
    cut_share = 0.0
    eta.scan(film)
    for part in range(1, 11):  # a scan takes a quarter of the time
        eta.cut_part(film, 0.1)
        cut_share += 0.1
        elapsed_s = 30.0 + 970 * (0.25 + 0.075 * part)
        left = eta.seconds_left(elapsed_s, scan_s=250.0, cut_s=elapsed_s - 250.0)
        assert left == pytest.approx(1000 - elapsed_s, abs=1.0)
    eta.finish(film, is_scanned=True, cut_share=cut_share)
    assert eta.seconds_left(1000.0, 250.0, 750.0) == pytest.approx(0.0, abs=1e-6)


def test_a_film_alone_has_a_time_once_some_of_it_is_cut():
    eta = Eta(1)
    film = eta.learn({"duration_s": 1000.0, "fps": 25.0, "width": 640, "height": 360})
    eta.scan(film)
    assert eta.seconds_left(100.0, scan_s=100.0) is None
    for _ in range(3):
        eta.cut_part(film, 0.1)
    assert eta.seconds_left(400.0, scan_s=100.0, cut_s=300.0) == pytest.approx(700.0)


def test_files_that_nothing_is_known_of_yet_are_taken_for_as_large_as_the_others():
    eta = Eta(100)
    info = {"duration_s": 10.0, "fps": 25.0, "width": 640, "height": 360}
    works = [eta.learn(info) for _ in range(10)]
    for work in works[:5]:
        eta.finish(work)
    eta.learn(None)
    assert eta.total == pytest.approx(100 * works[0] * 10 / 11, rel=0.1)
    assert eta.seconds_left(50.0) == pytest.approx(50 / 5 * (eta.total / works[0] - 5))


def test_a_still_image_weighs_its_one_picture() -> None:
    assert Eta(1).learn({"is_image": True, "duration_s": 0.0, "fps": 25.0, "width": 2000, "height": 1000}) == 2.0
