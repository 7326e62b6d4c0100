"""Flashing light: a scene that is dark or washed out for a moment, again and again, is one scene."""

from __future__ import annotations

import numpy as np

from reelwright.curation.shots.blank import PICTURE
from reelwright.curation.shots.footage import Footage
from reelwright.curation.shots.types import Transition

OFF_S = 0.6  # seconds for which the light may be off or blinding, or on
AROUND_S = 1.2  # before and after, in which
FEWEST = 3  # ... changes make it flashing
SAME = 0.75  # similarity of the scene to itself, some frames on


def without_flashes(footage: Footage, state: np.ndarray, found: list[Transition]) -> list[Transition]:
    """Return transitions, in order, without flashing light: after a flash the picture before it is seen again.

    state: of `blank.states`.
    """
    changes = np.union1d(np.flatnonzero(np.diff(state)) + 1, [t.first for t in found])
    if len(changes) < FEWEST:
        return found
    return [t for t in found if not _flashes(footage, state, t, changes)]


def _flashes(footage: Footage, state: np.ndarray, t: Transition, changes: np.ndarray) -> bool:
    before, after = t.first - 1, t.first if t.is_cut else t.last + 1
    if before < 0 or after >= len(footage):
        return False
    slack = 0.5 / footage.rate  # times in a file are rounded
    away = np.abs(footage.times_s[changes] - footage.times_s[t.first])
    around = changes[away < AROUND_S + slack]
    lasts_s = float(footage.times_s[t.last] - footage.times_s[t.first])
    is_lit = state[before] == state[after] == PICTURE  # two scenes may take turns as fast
    if is_lit or len(around) < FEWEST or lasts_s > OFF_S + slack:
        return False
    reach_s = max(footage.seconds(t.first, min(t.last + 1, len(footage) - 1)), OFF_S) + slack
    near = changes[away < reach_s].tolist()
    if any(_same(footage, state, before, c) for c in near if c > after):
        return True
    if any(_same(footage, state, c - 1, after) for c in near if 0 < c <= before):
        return True
    return _is_cut_short(footage, state, t, near)


def _is_cut_short(footage: Footage, state: np.ndarray, t: Transition, near: list[int]) -> bool:
    """Return whether the file begins or ends while the light is off or blinding, and its other side flashes on."""
    before, after = t.first - 1, t.first if t.is_cut else t.last + 1
    slack = 0.5 / footage.rate
    if (state[: before + 1] != PICTURE).all() and footage.seconds(0, before) < OFF_S + slack:
        return any(state[c] == PICTURE and _same(footage, state, after, c) for c in near if c > after)
    if (state[after:] != PICTURE).all() and footage.seconds(after, len(footage) - 1) < OFF_S + slack:
        return any(state[c - 1] == PICTURE and _same(footage, state, c - 1, before) for c in near if 0 < c <= before)
    return False


def _same(footage: Footage, state: np.ndarray, i: int, j: int) -> bool:
    """Two frames of one scene. Black is like any other black, which says nothing unless there is nothing else."""
    if state[i] != PICTURE and (state[max(0, i - 12) : j + 13] == PICTURE).any():
        return False
    return footage.similarity(i, j) > SAME
