"""Transitions of any shape: each place changes from the old shot's picture to the new one's, and not back.

Ink, irises, clock hands and luma mattes switch places one after the other, soft ones mix them on the way; either way a
pixel's colours lie between its first and its last and never turn round. A thing that moves through a picture gives a
pixel other colours meanwhile, and once it has crossed, the old picture is back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property, partial

import numpy as np

from reelwright.curation.media.sandbox_child import report_progress
from reelwright.curation.shots.follow import changing, found_whole
from reelwright.curation.shots.footage import Footage
from reelwright.curation.shots.types import Transition

SAMPLES = 9  # frames of a window looked at first
MAYBE_BESIDE = 0.1  # squared distance from the way between both colours, over that between them, worth a look
BESIDE = 0.045  # ... of a transition (cameras that pan: above 0.08 over more than a few frames)
DETOUR = 1.5  # times the way between both colours that pixels go to and fro along it
DIRECT = 0.42  # of all that pixels change, what remains in the end (cameras and things that cross: below)
CALM = 1.5  # times the pace before and after that a transition has
BESIDES = 5  # frames before and after over which that is taken
FLAT = 12.0  # grey levels of contrast; a plain thing that crosses has less
BACK = 0.06  # of the change that may be undone for a while
RETURN, RETURNED = 120, 0.75  # frames after which a thing that only crossed has gone; similarity that then is back
NOISE = 30.0  # squared grey levels of RGB that say nothing
SHORTEST, LONGEST = 5, 90  # frames


class Course:
    """How pixels go from a first to a last frame, uint8 RGB [n, 27, 48, 3]."""

    def __init__(self, frames: np.ndarray) -> None:
        self._seen = frames.reshape(len(frames), -1, 3).astype(np.float32)
        self._gone = self._seen - self._seen[0]
        self._way = self._gone[-1]
        self._length = _over_rgb(np.square(self._way))
        self._gone_along = self._gone * self._way

    @cached_property
    def _along(self) -> np.ndarray:
        return (_over_rgb(self._gone_along) / (self._length + NOISE)).clip(0, 1)

    @property
    def beside(self) -> float:
        """Mean squared distance from the way between both colours, over that between them."""
        aside = _over_rgb(np.square(self._gone - self._along[..., None] * self._way)).mean(1)
        return float(aside[1:-1].mean() / max(1.0, float(self._length.mean())))

    @property
    def detour(self) -> float:
        """How far pixels go to and fro along the way, over its length."""
        weight = self._length / max(1.0, float(self._length.sum()))
        return float((np.abs(np.diff(self._along, axis=0)).sum(0) * weight).sum())

    @property
    def direct(self) -> float:
        """What remains in the end, of all that pixels change."""
        gone = np.sqrt(_over_rgb(np.square(np.diff(self._seen, axis=0)))).sum()
        return float(np.sqrt(self._length).sum() / max(1.0, float(gone)))

    @property
    def share(self) -> np.ndarray:
        """Share of the change that is there, of each frame [n]; motion lends it neither sign."""
        return self._gone_along.sum((1, 2)) / max(1.0, float(self._length.sum()))


def find_mattes(footage: Footage, windows: Iterable[tuple[int, int]], taken: Sequence[Transition]) -> list[Transition]:
    """Find transitions of any shape within windows [start, end] with different ends, clear of `taken`; none overlap."""
    found: list[Transition] = []
    for start, end in windows:
        quarter = (end - start) // 4
        known = [*taken, *found]
        limits = (
            max([0, *(t.first if t.is_cut else t.last + 1 for t in known if t.first <= start)]),
            min([len(footage) - 1, *(t.first - 1 for t in known if t.first > start)]),
        )
        lo, hi = max(limits[0], start - quarter), min(limits[1], end + quarter)
        if hi - lo < SHORTEST + 1 or hi < end - quarter:
            continue
        at = np.unique(np.linspace(lo, hi, SAMPLES + 2).round().astype(int))
        if Course(footage.small[at]).beside < MAYBE_BESIDE:
            found += found_whole(partial(_switched, footage), lo, hi, limits)[-1:]
    return found


def _switched(footage: Footage, lo: int, hi: int) -> Transition | None:
    """Return the transition in frames [lo, hi], if they hold one."""
    report_progress(None)
    for _ in range(2):
        reach = changing(Course(footage.small[lo : hi + 1]).share)
        if reach is None:
            return None
        first, last = max(lo + reach[0], lo + 1), min(lo + reach[1], hi - 1)
        if not SHORTEST <= last - first + 1 <= LONGEST:
            return None
        lo, hi = max(lo, first - BESIDES), min(hi, last + BESIDES)
    course = Course(footage.small[first - 1 : last + 2])
    beside = course.beside
    one_way = float(np.clip(-np.diff(course.share), 0, None).sum()) < BACK
    smooth = beside < BESIDE and course.detour < DETOUR and course.direct > DIRECT and one_way
    textured = is_textured(footage, first - 1, last + 1)
    if not (smooth and textured and _calm_beside(footage, first, last)) or _returns(footage, first - 1, last + 1):
        return None
    return Transition(first, last, float(1 - beside / BESIDE / 2))


def _over_rgb(values: np.ndarray) -> np.ndarray:
    """Sum over the last axis [..., 3]: the same as numpy's sum, which takes many times as long over three values."""
    return values[..., 0] + values[..., 1] + values[..., 2]


def is_textured(footage: Footage, before: int, after: int) -> bool:
    """Neither frame shows something plain in the pixels that change: a door, a van's side, a light."""
    weight = np.square(footage.grey[after] - footage.grey[before])
    weight = weight / max(1.0, float(weight.sum()))
    for picture in footage.grey[[before, after]]:
        if np.sqrt((np.square(picture - (picture * weight).sum()) * weight).sum()) < FLAT:
            return False
    return True


def _calm_beside(footage: Footage, first: int, last: int) -> bool:
    """Return whether the picture changes more in frames [first, last] than it does before and after."""
    inside = float(footage.step[first : last + 2].mean())
    before, after = footage.step[max(1, first - BESIDES) : first], footage.step[last + 2 : last + 2 + BESIDES]
    return all(inside > CALM * float(side.mean()) for side in (before, after) if len(side))


def _returns(footage: Footage, before: int, after: int) -> bool:
    """Return whether something crossed: the earlier picture is soon seen again, or the later one was seen before."""
    later = np.arange(after, min(len(footage), after + RETURN), 4)
    earlier = np.arange(before, max(-1, before - RETURN), -4)
    pairs = [(np.full(len(later), before), later), (earlier, np.full(len(earlier), after))]
    return any((footage.still_similarity(i, j) > RETURNED).any() for i, j in pairs)
