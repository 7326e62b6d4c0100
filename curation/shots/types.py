"""What shot detection finds: transitions, and the shots between them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Transition:
    """Boundary between two shots: frames [first, last] mix both; a hard cut is the new shot's first frame alone.

    confidence: 0 to 1.
    """

    first: int
    last: int
    confidence: float

    @property
    def is_cut(self) -> bool:
        """Whether it is a hard cut."""
        return self.first == self.last


@dataclass(frozen=True)
class Shot:
    """Frames [start, end) that belong to one shot alone, and the transition they begin with (frames of the source)."""

    start: int
    end: int
    begins_with: Literal["start", "cut", "gradual"]
    transition_first: int | None
    transition_last: int | None
    confidence: float

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return self.end - self.start


def shots_from_transitions(transitions: Iterable[Transition], num_frames: int) -> list[Shot]:
    """Shots of a source of `num_frames` frames; frames of gradual transitions belong to none.

    transitions: in order, not overlapping, as a detector returns them. A transition that runs into the source's end
    (a fade-out) leaves no shot behind it. The first shot's confidence is 1: a source begins where it begins.
    """
    shots: list[Shot] = []
    start, opening = 0, None
    for transition in transitions:
        if transition.first < start or transition.last >= num_frames:
            raise ValueError(f"{transition} overlaps the one before it or lies outside {num_frames} frames")
        _append(shots, start, transition.first, opening)
        start = transition.first if transition.is_cut else transition.last + 1
        opening = transition
    _append(shots, start, num_frames, opening)
    return shots


def _append(shots: list[Shot], start: int, end: int, opening: Transition | None) -> None:
    if end <= start:
        return
    if opening is None:
        shots.append(Shot(start, end, "start", None, None, 1.0))
    else:
        kind: Literal["cut", "gradual"] = "cut" if opening.is_cut else "gradual"
        shots.append(Shot(start, end, kind, opening.first, opening.last, opening.confidence))
