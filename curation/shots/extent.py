"""How far a transition reaches: once found, its frames are followed outwards until both shots stand alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .blank import PICTURE, is_dip, long_runs, longest_dip, states, without_long_runs
from .flashes import without_flashes
from .follow import followed
from .footage import Footage
from .types import Transition

RISE = 0.01  # of its contrast a picture gains each frame while it fades in
FARTHEST = 64  # frames a fade is followed
SETTLED = 0.8  # similarity of frames half a transition apart where the shot beside it has begun
SHORTEST_SHOT = 8  # frames; less between two gradual transitions is a piece of one


def widen(footage: Footage, exact: Sequence[Transition], loose: Sequence[Transition]) -> list[Transition]:
    """Let `loose` transitions reach as far as they do, and join those with no shot between them.

    None overlap; nor do those returned, which are in order.
    """
    state = states(footage)
    found = without_flashes(footage, state, sorted([*exact, *loose], key=lambda t: t.first))
    wide: list[Transition] = []
    for index, t in enumerate(found):
        before = wide[-1].last + 1 if wide else 0
        after = found[index + 1].first - 1 if index + 1 < len(found) else len(footage) - 1
        reached = t
        if t in loose:
            mixed, length = followed(footage, t, (before, after)), t.last - t.first + 1
            first = min(mixed.first, _settled(footage, t.first, -1, before, length))
            last = max(mixed.last, _settled(footage, t.last, 1, after, length))
            first, last = _faded(footage, state, first, -1, before), _faded(footage, state, last, 1, after)
            reached = Transition(first, last, t.confidence)
        if wide and _one_way(footage, state, wide[-1], reached):
            wide[-1] = _joined(wide[-1], reached)
        else:
            wide.append(reached)
    return without_long_runs(wide, long_runs(footage, state))


def _settled(footage: Footage, at: int, way: int, limit: int, length: int) -> int:
    """From a transition's first (way -1) or last frame (way 1) on, where frames half its length apart are alike."""
    half = max(4, length // 2)
    for _ in range(2):
        ahead = at + way * (half + 1)
        if (limit - ahead) * way < 0 or footage.similarity(*sorted((at + way, ahead))) >= SETTLED:
            break
        at += way * half
    return at


def _faded(footage: Footage, state: np.ndarray, at: int, way: int, limit: int) -> int:
    """From a transition's first (way -1) or last frame (way 1) on, where black and a fade beyond it end."""
    contrast = footage.contrast
    for _ in range(FARTHEST + longest_dip(footage)):
        if at == limit or not 0 <= at + way < len(footage):
            break
        here, there = float(contrast[at]), float(contrast[at + way])
        if state[at + way] != PICTURE or there > here * (1 + RISE):
            at += way
        else:
            break
    return at


def _one_way(footage: Footage, state: np.ndarray, a: Transition, b: Transition) -> bool:
    """No shot lies between: black or white alone for a moment, or a few frames of what must be the same transition."""
    if is_dip(footage, state, a.first if a.is_cut else a.last + 1, b.first - 1):
        return True
    return not (a.is_cut or b.is_cut or b.first - a.last > SHORTEST_SHOT)


def _joined(a: Transition, b: Transition) -> Transition:
    first, last = a.first, b.first - 1 if b.is_cut else b.last
    if last <= first:  # a single black frame: the cut is where the new shot begins
        first = last = b.first
    return Transition(first, last, float(np.maximum(a.confidence, b.confidence)))
