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
    """Transitions, in order, but for those of flashing light: what was seen before is seen again right after.

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
    reach = round(OFF_S * footage.rate)
    around = changes[np.abs(changes - t.first) <= round(AROUND_S * footage.rate)]
    is_lit = state[before] == state[after] == PICTURE  # two scenes may take turns as fast
    if is_lit or len(around) < FEWEST or t.last - t.first > reach:
        return False
    near = around[np.abs(around - t.first) <= max(t.last - t.first + 2, reach)].tolist()
    returns = any(_same(footage, state, before, c) for c in near if c > after)
    return returns or any(_same(footage, state, c - 1, after) for c in near if 0 < c <= before)


def _same(footage: Footage, state: np.ndarray, i: int, j: int) -> bool:
    """Two frames of one scene. Black is like any other black, which says nothing unless there is nothing else."""
    if state[i] != PICTURE and (state[max(0, i - 12) : j + 13] == PICTURE).any():
        return False
    return footage.similarity(i, j) > SAME
