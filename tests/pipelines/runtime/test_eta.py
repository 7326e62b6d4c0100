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
