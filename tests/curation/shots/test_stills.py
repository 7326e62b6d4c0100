"""How much of a picture outlasts a change: all that no thing covers, at any exposure, and nothing of another scene."""

from __future__ import annotations

import numpy as np
import pytest

from reelwright.curation.shots.footage import Footage, shrink
from reelwright.curation.shots.stills import standing_share

from .footage_maker import crossing, join, scene, to_frames


def share(frames: np.ndarray, first: int, last: int) -> float:
    return standing_share(Footage(shrink(to_frames(frames))), first, last)


@pytest.mark.parametrize("drift", [0.7, 1.0, 1.4])
def test_what_crossed_the_picture_leaves_it_as_it_was(drift):
    assert share(crossing(100, size=30, speed=6, drift=drift), 20, 44) > 0.9


def test_what_came_and_stayed_leaves_the_rest_as_it_was():
    frames = crossing(100, size=36, speed=3, drift=1.0)
    frames[40:] = frames[40]
    covered = np.abs(frames[40] - frames[0]).max(-1) > 0
    assert share(frames, 20, 40) == pytest.approx(1 - covered.mean(), abs=0.05)


@pytest.mark.parametrize("gain", [0.7, 1.4])
def test_exposure_changes_nothing_that_stands(gain):
    frames = scene(15, 60, speed=0.0, brightness=0.6)
    frames *= np.interp(np.arange(60), [20, 30], [1, gain])[:, None, None, None]
    assert share(frames, 20, 30) > 0.9


@pytest.mark.parametrize("kind", ["dissolve", "wipe_left", "fade_black"])
@pytest.mark.parametrize("seed", range(3))
def test_another_scene_leaves_nothing_standing(kind, seed):
    a, b = scene(50 + seed, 80), scene(60 + seed, 80)
    assert share(join(a, b, 30, 16, kind), 30, 45) < 0.25


def test_bars_belong_to_no_shot():
    frames = join(scene(16, 80), scene(17, 80), 30, 16, "dissolve")
    frames[:, :, :24] = frames[:, :, -24:] = 0
    assert share(frames, 30, 45) < 0.3


@pytest.mark.parametrize("level", [0, 10, 255])
def test_pictures_of_one_colour_are_the_same(level):
    assert share(np.full((40, 54, 96, 3), level, np.float32), 10, 20) > 0.9
