"""Cuts and dissolves within a window of the picture: a studio's screen, a desk's graphics stay around them.

Their shape distinguishes them from things that move: the pixels that change fill a rectangle, all outside of it stays,
and inside all pixels go the same share of their way at the same time. Water or smoke that fills a rectangle can do so
for a second too; a mixture loses contrast on its way, and they do not (`mixed`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np

from reelwright.curation.shots.follow import changing, found_whole
from reelwright.curation.shots.footage import BLOCK_H, BLOCK_W, COLUMNS, HEIGHT, ROWS, WIDTH, Footage
from reelwright.curation.shots.mixed import paleness
from reelwright.curation.shots.types import Transition

CHANGED = 18.0  # grey levels, of the colour that changed most
LEAST, MOST = 0.36, 0.9  # of the picture, that a window fills
LINE = 0.3  # of a row or column within the window, that changes
FILLED, OUTSIDE = 0.55, 0.06  # share of changed pixels within the window, and without
UNLIKE = 0.5  # correlation of the window's content, before and after
ALIKE = 0.8  # ... of its blocks, wherever a camera that moves may have put them, above which it is the same picture
FLAT, FAINT = 12.0, 4.0  # grey levels of contrast: less in both pictures is a light, less in one a plain thing
TOGETHER = 0.08  # of the squared change, that pixels may differ in how far they are on their way
BACK = 0.08  # of the change, that may be undone meanwhile
PALE = 0.64  # of the contrast that mixtures lose (dissolves: 0.67 or more; water, smoke: below 0.61, mostly 0.3)
BESIDE = 8  # frames beyond the transition from which its window is seen as it is
SAMPLES = 9  # frames of a span looked at first
SHORTEST, LONGEST = 4, 90  # frames
GAP = 6  # frames from before a cut to after it that must not lead back

Box = tuple[slice, slice]  # rows, columns of the small frames


def find_inset_dissolves(
    footage: Footage, windows: Iterable[tuple[int, int]], taken: Sequence[Transition]
) -> list[Transition]:
    """Dissolves in a window of the picture, within frames [start, end]; clear of those `taken`; none overlap."""
    found: list[Transition] = []
    for start, end in windows:
        known = [*taken, *found]
        if any(t.first <= end and t.last >= start for t in known):
            continue
        limits = (
            max([0, *(t.last + 1 for t in known if t.last < start)]),
            min([len(footage) - 1, *(t.first - 1 for t in known if t.first > end)]),
        )
        found += found_whole(partial(_dissolved, footage), start, end, limits)[-1:]
    return found


def is_inset_cut(footage: Footage, t: int) -> bool:
    """Frame t begins another picture in a window, and that remains, as what was there before had."""
    if t < 2 or t + GAP >= len(footage):
        return False
    box = window_changed(footage.small[t - 1], footage.small[t])
    if box is None:
        return False
    seen = footage.grey[:, box[0], box[1]]
    change = np.abs(seen[t] - seen[t - 1]).mean()
    within = max(np.abs(seen[t - 1] - seen[t - 2]).mean(), np.abs(seen[t + 1] - seen[t]).mean())
    return bool(change > 4 * (1 + within)) and window_changed(footage.small[t - 1], footage.small[t + GAP]) is not None


def window_changed(before: np.ndarray, after: np.ndarray) -> Box | None:
    """Find the window where frames, uint8 RGB [27, 48, 3], show different pictures, if all the rest is unchanged."""
    change = np.abs(after.astype(np.int16) - before)
    most = np.maximum(np.maximum(change[..., 0], change[..., 1]), change[..., 2])  # numpy's max over three takes long
    changed = most > CHANGED
    if not LEAST * FILLED < changed.mean() < MOST:
        return None
    rows, columns = changed.mean(1), changed.mean(0)
    ys, xs = np.flatnonzero(rows > LINE * rows.max()), np.flatnonzero(columns > LINE * columns.max())
    box = slice(ys[0], ys[-1] + 1), slice(xs[0], xs[-1] + 1)
    size = (ys[-1] + 1 - ys[0]) * (xs[-1] + 1 - xs[0]) / (HEIGHT * WIDTH)
    inside = float(changed[box].mean())
    outside = (changed.mean() - inside * size) / max(1e-6, 1 - size)
    if not (LEAST <= size <= MOST and inside > FILLED and outside < OUTSIDE):
        return None
    a, b = (f[box].astype(np.float32).mean(-1) for f in (before, after))
    is_plain = min(a.std(), b.std()) < FAINT or max(a.std(), b.std()) < FLAT
    return None if is_plain or np.corrcoef(a.ravel(), b.ravel())[0, 1] > UNLIKE else box


def _dissolved(footage: Footage, start: int, end: int) -> Transition | None:
    box = window_changed(footage.small[start], footage.small[end])
    if box is None:
        return None
    step = max(1, (end - start) // SAMPLES)
    _, apart = _shares(footage, np.arange(start, end + 1, step), box)
    if apart > TOGETHER:
        return None
    reach = changing(_shares(footage, np.arange(start, end + 1), box)[0])
    if reach is None:
        return None
    first, last = max(start + reach[0], start + 1), min(start + reach[1], end - 1)
    share, apart = _shares(footage, np.arange(first - 1, last + 2), box)
    back = float(np.clip(-np.diff(share), 0, None).sum())
    if apart > TOGETHER or back > BACK or not SHORTEST <= last - first + 1 <= LONGEST:
        return None
    is_whole = _stays(footage, first - 1, last + 1, box)
    if not is_whole or _likeness(footage, first - 1, last + 1, box) > ALIKE or not _mixes(footage, first, last, box):
        return None
    return Transition(first, last, float(1 - apart / TOGETHER / 2))


def _mixes(footage: Footage, first: int, last: int, box: Box) -> bool:
    """Return whether the window's frames [first, last] are as pale as mixtures of those beside them."""
    return paleness(footage.small[first - 1 : last + 2, box[0], box[1]]) > PALE


def _stays(footage: Footage, before: int, after: int, box: Box) -> bool:
    """Return whether the window is the same one from farther away: no front that was on its way made it."""
    farther = [(before, min(len(footage) - 1, after + BESIDE)), (max(0, before - BESIDE), after)]
    for a, b in farther:
        other = window_changed(footage.small[a], footage.small[b])
        if other is None or max(abs(p - q) for p, q in zip(_sides(box), _sides(other), strict=True)) > 1:
            return False
    return True


def _likeness(footage: Footage, before: int, after: int, box: Box) -> float:
    """How alike the window's textured blocks are, 0 to 1, at their best displacement."""
    inside = np.zeros((HEIGHT, WIDTH), np.float32)
    inside[box] = 1
    share = inside.reshape(ROWS, BLOCK_H, COLUMNS, BLOCK_W).mean((1, 3)).ravel()
    there, back = footage.matches(before, after), footage.matches(after, before)
    weight_there, weight_back = share * footage.texture[after], share * footage.texture[before]
    return float((weight_there * there + weight_back * back).sum() / max(1e-6, (weight_there + weight_back).sum()))


def _sides(box: Box) -> tuple[int, ...]:
    return box[0].start, box[0].stop, box[1].start, box[1].stop


def _shares(footage: Footage, at: np.ndarray, box: Box) -> tuple[np.ndarray, float]:
    """How far the window's frames are from the first to the last [n], and how much of it their pixels do not share."""
    seen = footage.small[at][:, box[0], box[1]].astype(np.float32).reshape(len(at), -1)
    way = seen[-1] - seen[0]
    share = (seen - seen[0]) @ way / max(1.0, float(way @ way))
    apart = np.square(seen - seen[0] - share[:, None] * way).sum(1) / max(1.0, float(way @ way))
    return share, float(apart[1:-1].mean()) if len(at) > 2 else 0.0
