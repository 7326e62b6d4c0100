"""Frames that show nothing, black or white: within a transition for a moment, a shot of their own for longer."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from reelwright.curation.shots.footage import Footage, mean_colour
from reelwright.curation.shots.types import Transition

FLAT, BLACK, WHITE = 6.0, 24.0, 232.0  # grey levels: contrast, and brightness, of frames that show next to nothing
EMPTY = 2.0  # grey levels of contrast; black with stars or small letters on it has more,
MOMENT_S = 0.4  # ... and is a shot if it lasts longer
DIP_S = 2.5  # the longest black or white inside a transition; editors dip for a second or two
LONGEST_DIP = 160  # frames, at whatever rate: within what is seen around a block
SETTLED = 0.4  # grey levels of contrast and brightness above those of the whole run at which a fade has ended
NEAR = 8  # frames; a transition that begins or ends so little within such a scene begins or ends with it

PICTURE, DARK, BRIGHT = 0, 1, 2


@dataclass(frozen=True)
class Run:
    """Frames [first, last] that show nothing."""

    first: int
    last: int

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return self.last - self.first + 1


def states(footage: Footage) -> np.ndarray:
    """PICTURE, DARK or BRIGHT of each frame: int8 [T]. Deep blue is dark only if its blue is."""
    colour = mean_colour(footage.small)  # [T, 3]
    flat = footage.contrast < FLAT
    return np.select([flat & (colour.max(1) < BLACK), flat & (colour.min(1) > WHITE)], [DARK, BRIGHT], PICTURE)


def longest_dip(footage: Footage) -> int:
    """Frames that black or white inside a transition may last at most, where none of them repeats."""
    source_rate = float(1 / np.diff(footage.times_s).min())
    return min(LONGEST_DIP, round(DIP_S * source_rate))


def is_long(footage: Footage, run: Run) -> bool:
    """Whether black or white lasts longer than inside a transition."""
    return run.num_frames > LONGEST_DIP or footage.seconds(run.first, run.last) > DIP_S + 0.5 / footage.rate


def is_dip(footage: Footage, state: np.ndarray, first: int, last: int) -> bool:
    """Return whether frames [first, last], which may be none, are a dip to black or white between pictures.

    A stretch that is long enough to be a shot is no dip.
    """
    if last < first:
        return True
    run = _run_of(state, first)
    if state[first] == PICTURE or run.last < last or is_long(footage, run):
        return False
    beside = state[max(0, run.first - 1) : run.first].tolist() + state[run.last + 1 : run.last + 2].tolist()
    if any(there != PICTURE for there in beside):  # white and black take turns: slides
        return False
    lasts_s = footage.seconds(first, last) - 1 / footage.rate
    return lasts_s < MOMENT_S or float(np.median(footage.contrast[first : last + 1])) < EMPTY


def long_runs(footage: Footage, state: np.ndarray) -> list[Run]:
    """Scenes that show nothing, without the ends of the fades that lead there and away."""
    edges = np.flatnonzero(np.diff(state, prepend=PICTURE, append=PICTURE))
    runs = [Run(int(a), int(b) - 1) for a, b in pairwise(edges) if state[a] != PICTURE]
    return [_settled(footage, run) for run in runs if is_long(footage, run)]


def _run_of(state: np.ndarray, at: int) -> Run:
    """Return the frames around `at` that are in its state."""
    others = np.flatnonzero(state != state[at])
    index = int(np.searchsorted(others, at))
    first = int(others[index - 1]) + 1 if index else 0
    return Run(first, int(others[index]) - 1 if index < len(others) else len(state) - 1)


def _settled(footage: Footage, run: Run) -> Run:
    inside = slice(run.first, run.last + 1)
    contrast, level = footage.contrast[inside], footage.level[inside]
    usual, usual_level = float(np.median(contrast)), float(np.median(level))
    is_usual = (contrast < 1.2 * usual + SETTLED) & (np.abs(level - usual_level) < 2 * SETTLED + 0.1 * usual)
    at = np.flatnonzero(is_usual)
    return Run(run.first + int(at[0]), run.first + int(at[-1])) if len(at) else run


def without_long_runs(found: list[Transition], runs: list[Run]) -> list[Transition]:
    """Return the transitions, in order, that leave empty scenes to be shots.

    A transition ends where such a scene begins, and begins where it ends.
    """
    pieces = found
    for run in runs:
        pieces = [piece for t in pieces for piece in _outside(t, run)]
    out: list[Transition] = []
    for t in pieces:
        if not out or t.first > out[-1].last:
            out.append(t)
    return out


def _outside(t: Transition, run: Run) -> list[Transition]:
    begins, ends = t.first - run.first, run.last - t.last  # frames within the run
    if t.is_cut or t.last < run.first or t.first > run.last or min(begins, ends) >= NEAR:
        return [t]
    pieces = []
    if begins < NEAR and run.first > 0:
        pieces.append(_transition(min(t.first, run.first), run.first - 1, run.first, t.confidence))
    if ends < NEAR:
        pieces.append(_transition(run.last + 1, max(t.last, run.last + 1), run.last + 1, t.confidence))
    return pieces


def _transition(first: int, last: int, cut: int, confidence: float) -> Transition:
    """Of no or one frame there is no mixture: the new shot's first is the cut."""
    return Transition(first, last, confidence) if last > first else Transition(cut, cut, confidence)
