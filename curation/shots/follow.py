"""How far a dissolve reaches: its detection sees its middle, and often too little of its ends.

Each frame is explained as a mixture of one of the old shot and one of the new. Before the transition nothing of the
new shot is there, whatever moves; within it the new one's share grows at a pace, and the old one's goes the same way.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from reelwright.curation.shots.footage import Footage
from reelwright.curation.shots.types import Transition

NEAREST, FARTHEST = 12, 96  # frames beyond the transition from which the two shots are taken
PACE = 0.4  # of the pace inside that still counts as going on
EASED = 0.12  # ... where editors ease a transition in and out
SMOOTH = 5  # frames over which a pace is taken
WORSE, BIT = 1.6, 0.03  # times the share that is left unexplained, and a bit, that is about as well explained
TOUCHES = 2  # frames from an edge of the window, within which a transition may continue beyond it
ALIKE = 0.9  # correlation of the two shots above which no mixture can be recognised


def followed(footage: Footage, t: Transition, limits: tuple[int, int]) -> Transition:
    """`t`, reaching outwards within frames `limits` to where both shots stand alone; `t` where that cannot be seen."""
    before = after = NEAREST
    while True:
        lo, hi = max(limits[0], t.first - before), min(limits[1], t.last + after)
        first, last = _ends(footage, t, lo, hi)
        farther = (before if first is not None or lo == limits[0] else 2 * before,
                   after if last is not None or hi == limits[1] else 2 * after)  # fmt: skip
        if farther == (before, after) or max(farther) > FARTHEST:
            return Transition(t.first if first is None else first, t.last if last is None else last, t.confidence)
        before, after = farther


def is_as_clear(t: Transition, other: Transition) -> bool:
    """Whether `t` is explained about as well as `other`."""
    return 1 - t.confidence <= WORSE * (1 - other.confidence) + BIT


def found_whole(
    find: Callable[[int, int], Transition | None], lo: int, hi: int, limits: tuple[int, int]
) -> list[Transition]:
    """Return the transitions that `find` sees in frames [lo, hi], then in more frames.

    The frames grow within `limits`, as long as the transition reaches their edge and grows: a part of a slide is a
    slide as well. The last transition is the whole; the list is empty where there is none.
    """
    seen: list[Transition] = []
    while t := find(lo, hi):
        length = t.last - t.first + 1
        if seen and not (length > seen[-1].last - seen[-1].first + 1 and is_as_clear(t, seen[-1])):
            break
        seen.append(t)
        farther = (
            max(limits[0], lo - length) if t.first <= lo + TOUCHES else lo,
            min(limits[1], hi + length) if t.last >= hi - TOUCHES else hi,
        )
        if farther == (lo, hi):
            break
        lo, hi = farther
    return seen


def _ends(footage: Footage, t: Transition, lo: int, hi: int) -> tuple[int | None, int | None]:
    """Return where the transition begins and ends if frames `lo` and `hi` are of the two shots.

    None stands for an end whose frame is on its way already.
    """
    frames = footage.grey[lo : hi + 1].reshape(hi - lo + 1, -1)
    old, new = frames[0], frames[-1]
    if _correlation(old, new) > ALIKE:
        return None, None
    shares, *_ = np.linalg.lstsq(np.stack([old, new, np.ones_like(old)], axis=1), frames.T, rcond=None)
    first = lo + _begin(shares[1], t.first - lo, t.last - lo)
    last = hi - _begin(shares[0][::-1], hi - t.last, hi - t.first)
    return first if first > lo + SMOOTH // 2 else None, last if last < hi - SMOOTH // 2 else None


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b) / max(1e-6, float(np.sqrt((a @ a) * (b @ b))))


def changing(share: np.ndarray) -> tuple[int, int] | None:
    """Return the first and last frame between the shots, from the new shot's share of each frame.

    The share is 0 at first and 1 at last; None where it does not rise so. It is followed outwards from its middle half,
    as shares drift a little in the shots too.
    """
    middle = int(np.abs(share - 0.5).argmin())
    under, over = np.flatnonzero(share[: middle + 1] < 0.25), np.flatnonzero(share[middle:] > 0.75)
    if not (len(under) and len(over)):
        return None
    rising, risen = int(under[-1]), middle + int(over[0])
    first = _begin(share, rising, risen, EASED) + 1
    last = len(share) - 1 - _begin(1 - share[::-1], len(share) - 1 - risen, len(share) - 1 - rising, EASED) - 1
    return min(first, middle), max(last, middle)


def _begin(share: np.ndarray, first: int, last: int, least: float = PACE) -> int:
    """Where `share` begins to grow at `least` of its pace over [first, last] or more; `first` where it does not."""
    pace = (share[last] - share[first]) / max(1, last - first)
    if pace <= 0:
        return first
    half = SMOOTH // 2
    paces = np.convolve(np.pad(np.diff(share), half, mode="edge"), np.full(SMOOTH, 1 / SMOOTH), mode="valid")
    at = first
    while at > 0 and paces[at - 1] > least * pace:
        at -= 1
    return at
