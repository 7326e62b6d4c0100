"""Frames that show nothing, black or white: within a transition for a moment, a shot of their own for longer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .footage import Footage
from .types import Transition

FLAT, BLACK, WHITE = 6.0, 24.0, 232.0  # grey levels: contrast, and brightness, of frames that show next to nothing
EMPTY = 2.0  # grey levels of contrast; black with stars or small letters on it has more,
MOMENT_S = 0.4  # ... and is a shot if it lasts longer
DIP_S = 2.5  # the longest black or white inside a transition; editors dip for a second or two
LONGEST_DIP = 160  # frames, at whatever rate: within what is seen around a block
SETTLED = 0.4  # grey levels of contrast and brightness above those of the whole run at which a fade has ended

PICTURE, DARK, BRIGHT = 0, 1, 2


@dataclass(frozen=True)
class Run:
    """Frames [first, last] that show nothing."""

    first: int
    last: int

    @property
    def num_frames(self) -> int:
        return self.last - self.first + 1


def states(footage: Footage) -> np.ndarray:
    """PICTURE, DARK or BRIGHT of each frame: int8 [T]. Deep blue is dark only if its blue is."""
    colour = footage.small.mean((1, 2))  # [T, 3]
    flat = footage.contrast < FLAT
    return np.select([flat & (colour.max(1) < BLACK), flat & (colour.min(1) > WHITE)], [DARK, BRIGHT], PICTURE)


def longest_dip(footage: Footage) -> int:
    """Frames that black or white inside a transition may last."""
    return min(LONGEST_DIP, round(DIP_S * footage.rate))


def is_dip(footage: Footage, state: np.ndarray, first: int, last: int) -> bool:
    """Whether frames [first, last], which may be none, show nothing, and not for long enough to be a shot."""
    inside = slice(first, last + 1)
    if last < first:
        return True
    if last - first >= longest_dip(footage) or (state[inside] == PICTURE).any():
        return False
    return last - first < MOMENT_S * footage.rate or float(np.median(footage.contrast[inside])) < EMPTY


def long_runs(footage: Footage, state: np.ndarray) -> list[Run]:
    """Scenes that show nothing, without the ends of the fades that lead there and away."""
    edges = np.flatnonzero(np.diff(np.pad((state != PICTURE).astype(np.int8), 1)))
    found = []
    for lo, hi in zip(edges[::2], edges[1::2], strict=True):  # frames [lo, hi)
        run = _settled(footage, int(lo), int(hi))
        if run.num_frames > longest_dip(footage):
            found.append(run)
    return found


def _settled(footage: Footage, lo: int, hi: int) -> Run:
    contrast, level = footage.contrast[lo:hi], footage.level[lo:hi]
    usual, usual_level = float(np.median(contrast)), float(np.median(level))
    is_usual = (contrast < 1.2 * usual + SETTLED) & (np.abs(level - usual_level) < 2 * SETTLED + 0.1 * usual)
    at = np.flatnonzero(is_usual)
    return Run(lo + int(at[0]), lo + int(at[-1])) if len(at) else Run(lo, hi - 1)


def without_long_runs(found: list[Transition], runs: list[Run]) -> list[Transition]:
    """Transitions, in order, that leave scenes that show nothing to be shots: ending where one begins, beginning where
    it ends."""
    out: list[Transition] = []
    for t in found:
        pieces = [t]
        for run in runs:
            pieces = [piece for p in pieces for piece in _outside(p, run)]
        out += [p for p in pieces if not out or p.first > out[-1].last]
    return out


def _outside(t: Transition, run: Run) -> list[Transition]:
    if t.is_cut or t.last < run.first or t.first > run.last:
        return [t]
    pieces = []
    if t.first < run.first:  # the run is a shot that begins right after it
        pieces.append(_gradual_or_cut(t.first, run.first - 1, run.first, t.confidence))
    if t.last > run.last:
        pieces.append(_gradual_or_cut(run.last + 1, t.last, t.last, t.confidence))
    return pieces


def _gradual_or_cut(first: int, last: int, cut: int, confidence: float) -> Transition:
    """Of a single frame there is no mixture: the new shot's first is the cut."""
    return Transition(first, last, confidence) if last > first else Transition(cut, cut, confidence)
