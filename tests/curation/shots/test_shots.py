"""Shots and transitions tile the source."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelwright.curation.shots import Transition, shots_from_transitions


@st.composite
def transitions(draw) -> tuple[list[Transition], int]:
    steps = draw(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 4)), max_size=8))
    found, at = [], 0
    for gap, length in steps:
        found.append(Transition(at + gap, at + gap + length, 0.5))
        at += gap + length + 1
    return found, at + draw(st.integers(0, 5))


@given(transitions())
def test_every_frame_is_in_one_shot_or_one_gradual_transition(case):
    found, num_frames = case
    times = [0] * num_frames
    for shot in shots_from_transitions(found, num_frames):
        assert shot.num_frames > 0
        for t in range(shot.start, shot.end):
            times[t] += 1
    for transition in found:
        if not transition.is_cut:
            for t in range(transition.first, transition.last + 1):
                times[t] += 1
    assert times == [1] * num_frames


def test_a_shot_says_what_it_begins_with():
    shots = shots_from_transitions([Transition(10, 10, 0.9), Transition(20, 24, 0.8)], 40)
    assert [(s.start, s.end, s.begins_with, s.transition_first, s.transition_last) for s in shots] == [
        (0, 10, "start", None, None), (10, 20, "cut", 10, 10), (25, 40, "gradual", 20, 24)]  # fmt: skip


def test_a_fade_out_leaves_no_shot_behind():
    assert [s.end for s in shots_from_transitions([Transition(5, 9, 1.0)], 10)] == [5]


def test_overlapping_transitions_are_refused():
    with pytest.raises(ValueError, match="overlaps"):
        shots_from_transitions([Transition(5, 9, 1.0), Transition(8, 12, 1.0)], 20)
