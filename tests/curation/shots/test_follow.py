"""A part of a dissolve is followed to where both shots stand alone, and no farther."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from reelwright.curation.shots import Transition
from reelwright.curation.shots.follow import followed
from reelwright.curation.shots.footage import Footage, shrink

from .footage_maker import join, scene, to_frames

AT = 60  # first frame of the transition


@cache
def dissolve(length: int, *, speed: float = 0.03, brightness: float = 1.0, seed: int = 3) -> Footage:
    a, b = (scene(s, 130, speed=speed, brightness=brightness) for s in (seed, seed + 1))
    return Footage(shrink(to_frames(join(a, b, AT, length, "dissolve"))))


@pytest.mark.parametrize("part", [(0.0, 0.4), (0.3, 0.7), (0.6, 1.0)], ids=["beginning", "middle", "end"])
@pytest.mark.parametrize("length", [16, 40])
@pytest.mark.parametrize("light", [1.0, 0.25])
def test_the_whole_is_found_from_a_part(part, length, light):
    footage = dissolve(length, brightness=light)
    seen = Transition(AT + int(part[0] * length), AT + int(part[1] * length) - 1, 0.5)
    found = followed(footage, seen, (0, len(footage) - 1))
    slack = 3 + length // 10
    assert abs(found.first - AT) <= slack
    assert abs(found.last - (AT + length - 1)) <= slack
    assert found.first <= seen.first
    assert found.last >= seen.last


@pytest.mark.parametrize("speed", [0.0, 0.4])
def test_what_is_whole_stays(speed):
    footage = dissolve(20, speed=speed)
    found = followed(footage, Transition(AT, AT + 19, 0.5), (0, len(footage) - 1))
    assert AT - 4 <= found.first <= AT
    assert AT + 19 <= found.last <= AT + 19 + 4


def test_limits_are_kept():
    found = followed(dissolve(40), Transition(AT + 15, AT + 25, 0.5), (AT + 10, AT + 30))
    assert (found.first, found.last) >= (AT + 10, AT + 25)
    assert found.last <= AT + 30


@pytest.mark.parametrize("frames", [np.zeros((40, 54, 96, 3)), np.full((40, 54, 96, 3), 200.0)], ids=["black", "grey"])
def test_nothing_to_see_is_nothing_to_follow(frames):
    t = Transition(15, 20, 0.5)
    assert followed(Footage(shrink(to_frames(frames, noise=0.0))), t, (0, 39)) == t


def test_the_very_ends_of_a_file_can_be_reached():
    a, b = scene(3, 60, speed=0.1), scene(4, 60, speed=0.1)
    footage = Footage(shrink(to_frames(join(a, b, 0, 30, "dissolve"))))
    found = followed(footage, Transition(8, 25, 0.5), (0, len(footage) - 1))
    assert 0 <= found.first <= 8
