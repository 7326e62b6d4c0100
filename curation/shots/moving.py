"""Transitions in which pictures move: pushes, covers, squeezes, cubes, doors.

Each frame between two rests is composed from the picture at its beginning and the one at its end, at every stage
of every layout (see `layouts`). It is a transition if one layout explains all frames, in order of its stages, far
better than any mixture of the two pictures at rest does. A camera that pans by its picture's width moves as a push
does, except that its pictures join without a seam, and that it need not rest at the ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from reelwright.curation.media.sandbox_child import report_progress
from reelwright.curation.shots.follow import EASED, found_whole, is_as_clear
from reelwright.curation.shots.footage import HEIGHT, WIDTH, Footage
from reelwright.curation.shots.layouts import STEPS, WAYS, Atlas, atlas
from reelwright.curation.shots.mattes import is_textured
from reelwright.curation.shots.types import Transition

SAMPLES = 9  # frames of a window looked at first, at half size
HINT = 0.5  # largest unexplained part by a layout over that by a mixture that is worth a look
EXPLAINED = 0.33  # ... of a transition
PANNED = 0.45  # largest unexplained part over that by a camera's pan
BACK = 0.08  # of the way that noise may seem to go back
LEAP = 0.35  # share of the way from one frame to the next: with more, the stages between were never seen
BEGINS, ENDS = 0.36, 0.8  # progress of the first and the last frame between: an easing may begin or end with a jump
SEAM = 1.6  # times the change between neighbouring columns, over the line where pushed pictures meet; a pan's is 1
FLAT = 4.0  # grey levels; pictures with less contrast could be laid out anyhow
DETAIL = 0.5  # of the plainer picture's own detail that is seen where it should be
SHORTEST, BRIEF, LONGEST = 4, 8, 90  # frames
AT_REST = 0.45  # of the transition's pace that a camera may go at before and after
REST = 4  # frames over which that is looked at
FAINT = 0.03  # share of the way, little more than a small pixel, below which stages cannot be distinguished
CREEP = 0.006  # of the way gone, by how far a frame leans towards the next stage, that is still a move


@dataclass(frozen=True)
class Fit:
    """How well one layout explains the frames between lo and hi.

    It has the share that is not explained (0 to 1, or more), and the progress of each frame [n].
    """

    name: str
    lo: int
    hi: int
    unexplained: float
    progress: np.ndarray

    @property
    def kind(self) -> str:
        """Name of the layout's kind, without its direction."""
        return self.name.partition(" ")[0]

    @property
    def in_order(self) -> bool:
        """Whether progress hardly runs back and takes no leap."""
        gone = np.diff(self.progress)
        return float(np.clip(-gone, 0, None).sum()) < BACK and float(gone.max(initial=0)) < LEAP


def find_moving(footage: Footage, windows: Iterable[tuple[int, int]], cuts: Sequence[Transition]) -> list[Transition]:
    """Find moving transitions within windows [start, end] with different ends, the widest windows first; none overlap.

    Args:
        footage: the pictures.
        windows: [start, end] in frames.
        cuts: suspected cuts; some may be the jerks of a fast transition, which is found here.
    """
    found: list[Transition] = []
    for start, end in windows:
        quarter = (end - start) // 4
        limits = (
            max([0, *(t.first for t in cuts if t.first <= start)]),
            min([len(footage) - 1, *(t.first - 1 for t in cuts if t.first > end)]),
        )
        lo, hi = max(limits[0], start - quarter), min(limits[1], end + quarter)
        if any(lo <= t.first and t.last <= hi for t in found):
            continue
        if kinds := _hints(footage, lo, hi):
            found += found_whole(partial(_fitted, footage, np.array(kinds)), lo, hi, limits)
    return _longest(found)


def _longest(found: list[Transition]) -> list[Transition]:
    """Of those that overlap, the longest one that is explained about as well as any: half a cover is a cover too."""
    kept: list[Transition] = []
    for t in sorted(found, key=lambda t: (t.first - t.last, -t.confidence)):
        rivals = [u for u in found if t.first <= u.last and u.first <= t.last]
        clear = not any(t.first <= other.last and other.first <= t.last for other in kept)
        if clear and all(is_as_clear(t, u) for u in rivals):
            kept.append(t)
    return kept


def _hints(footage: Footage, lo: int, hi: int) -> list[int]:
    """Layouts that may explain a window, by some frames of it at half size in grey."""
    if min(footage.contrast[lo], footage.contrast[hi]) < FLAT or hi - lo < SHORTEST:
        return []
    import cv2

    report_progress(None)
    half = atlas(HEIGHT // 2, WIDTH // 2)
    at = np.unique(np.linspace(lo, hi, SAMPLES + 2).round().astype(int))
    size = (half.width, half.height)
    frames = np.stack([cv2.resize(footage.grey[t], size, interpolation=cv2.INTER_AREA) for t in at])
    kinds = np.flatnonzero(~half.pans)
    error, stage, mixed = _explain(half, frames[1:-1, ..., None], frames[0, ..., None], frames[-1, ..., None], kinds)
    share = error.sum(0) / (mixed.sum() + 1.0)
    progress = (stage + 0.5) / STEPS
    back = np.clip(-np.diff(progress, axis=0), 0, None).sum(0)
    likely = (share < HINT) & (back < 3 * BACK)
    return [int(k) for k in kinds[likely] if _seamed(footage, lo, hi, half.names[k])]


def _fitted(footage: Footage, kinds: np.ndarray, lo: int, hi: int) -> Transition | None:
    """Fit a transition in a window to the pictures just before and after it.

    Its confidence is the share that it explains.
    """
    for again in (False, True):
        fit = _best_fit(footage, lo, hi, kinds)
        moving = np.flatnonzero((fit.progress > FAINT) & (fit.progress < 1 - FAINT))
        if fit.unexplained > (HINT if again else 1) or len(moving) < SHORTEST - 1:  # from afar, shots drift
            return None
        first, last = lo + 1 + int(moving[0]), lo + 1 + int(moving[-1])
        if not again:  # once more, between pictures closer by
            margin = 2 + (last - first) // 2
            lo, hi = max(lo, first - margin), min(hi, last + margin)
    limit = EXPLAINED if last - first >= BRIEF else EXPLAINED / 2  # few frames are easily explained
    good = fit.unexplained < limit and fit.in_order and last - first < LONGEST
    whole = fit.progress[moving[0]] < BEGINS and fit.progress[moving[-1]] > ENDS
    if not (
        good
        and whole
        and _seamed(footage, lo, hi, fit.name)
        and (is_textured(footage, lo, hi) or _shows_detail(footage, fit))
        and _rests(footage, first, last, fit)
    ):
        return None
    if fit.unexplained > PANNED * _best_fit(footage, lo, hi, _pans(fit.kind == "push")).unexplained:
        return None
    first = _crept(footage, fit, lo, first, -1)
    last = _crept(footage, fit, hi, last, 1)
    return Transition(first, last, float(1 - fit.unexplained))


def _shows_detail(footage: Footage, fit: Fit) -> bool:
    """Whether the plainer picture's own detail, little as there is, goes where the layout says: a door has none."""
    frames = np.stack([_soft(footage, t) for t in range(fit.lo, fit.hi + 1)])
    ends = [frames[0], frames[-1]]
    contrast = [float(picture.mean(-1).std()) for picture in ends]
    plainer = int(np.argmin(contrast))
    if contrast[plainer] < FLAT:
        return False
    full = atlas(HEIGHT, WIDTH)
    kind = np.array([full.names.index(fit.name)])
    stages = (fit.progress * STEPS).astype(int)
    made = full.compose(ends[0], ends[1], kind)[0, stages]
    ends[plainer] = np.full_like(ends[plainer], ends[plainer].mean((0, 1)))
    plain = full.compose(ends[0], ends[1], kind)[0, stages]
    seen = frames[1:-1].reshape(made.shape)
    gained = np.square(seen - plain).sum() - np.square(seen - made).sum()
    return bool(gained > DETAIL * np.square(made - plain).sum())


def _pans(short: bool) -> np.ndarray:
    """Layouts of a camera's pans; `short`: by less than the whole picture, which but for its seam is a push."""
    full = atlas(HEIGHT, WIDTH)
    return np.array([k for k in np.flatnonzero(full.pans) if not (short and full.names[k].endswith(" 1.0"))])


def _crept(footage: Footage, fit: Fit, rest: int, at: int, way: int) -> int:
    """Follow a transition from its first (way -1) or last frame (way 1) on.

    It reaches as far as frames lean from the picture at `rest` towards the transition's stages.
    """
    full = atlas(HEIGHT, WIDTH)
    kind = np.array([full.names.index(fit.name)])
    pictures = [_soft(footage, t) for t in (fit.lo, fit.hi)]
    stage = 1 if way < 0 else STEPS - 2
    still = pictures[0 if way < 0 else 1].reshape(-1)
    lean = full.compose(pictures[0], pictures[1], kind)[0, stage].reshape(-1) - still
    scale = 1.5 / STEPS / max(1.0, float(lean @ lean))
    last = abs(rest - at) - 1  # frames that may be crept through
    leans = [float((_soft(footage, at + way * i).reshape(-1) - still) @ lean) * scale for i in range(last + 2)]
    pace = EASED / len(fit.progress[(fit.progress > FAINT) & (fit.progress < 1 - FAINT)])
    crept = 0
    while crept < last and leans[crept + 1] > CREEP and leans[crept] - leans[crept + 1] > pace:
        crept += 1
    return at + way * crept


def _best_fit(footage: Footage, lo: int, hi: int, kinds: np.ndarray) -> Fit:
    frames = np.stack([_soft(footage, t) for t in range(lo, hi + 1)])
    full = atlas(HEIGHT, WIDTH)
    error, stage, mixed = _explain(full, frames[1:-1], frames[0], frames[-1], kinds)
    share = error.sum(0) / (mixed.sum() + 1.0)
    best = int(share.argmin())
    return Fit(full.names[kinds[best]], lo, hi, float(share[best]), (stage[:, best] + 0.5) / STEPS)


def _soft(footage: Footage, t: int) -> np.ndarray:
    """Frame t blurred by a pixel, as layouts know no half pixels: float32 [27, 48, 3]."""
    import cv2

    return cv2.blur(footage.small[t].astype(np.float32), (3, 3))


def _explain(
    layouts: Atlas, frames: np.ndarray, old: np.ndarray, new: np.ndarray, kinds: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Explain frames by layouts.

    Args:
        layouts: the layouts.
        frames: float32 [n, H, W, C].
        old: the picture at rest before.
        new: the picture at rest after.
        kinds: layouts to try, [k].

    Returns:
        Squared error [n, k] and stage [n, k] of each layout's best stage, and the error [n] of the best mixture of the
        two pictures at rest.
    """
    seen = frames.reshape(len(frames), -1)
    made = layouts.compose(old, new, kinds).reshape(len(kinds) * STEPS, -1)
    error = np.square(seen).sum(1) - made @ (2 * seen).T + np.square(made).sum(1)[:, None]  # the faster way round
    error = error.reshape(len(kinds), STEPS, len(frames)).clip(0) / seen.shape[1]
    start, way = old.reshape(-1), (new - old).reshape(-1)
    share = ((seen - start) @ way / max(1.0, float(way @ way))).clip(0, 1)
    mixed = np.square(seen - start - share[:, None] * way).mean(1)
    return error.min(1).T, error.argmin(1).T, mixed


def _seamed(footage: Footage, before: int, after: int, name: str) -> bool:
    """Pushed pictures do not continue one another where they meet; other layouts have no such line."""
    kind, _, way = name.partition(" ")
    if kind != "push":
        return True
    old, new = (footage.small[t].astype(np.float32) for t in (before, after))
    if way in ("left", "right"):
        old, new = old.transpose(1, 0, 2), new.transpose(1, 0, 2)
    if way in ("right", "down"):
        old, new = old[::-1], new[::-1]
    usual = (np.abs(np.diff(old[-4:], axis=0)).mean() + np.abs(np.diff(new[:4], axis=0)).mean()) / 2
    return float(np.abs(old[-1] - new[0]).mean()) > SEAM * (1 + usual)


def _rests(footage: Footage, first: int, last: int, fit: Fit) -> bool:
    """Return whether the moving picture stands, or nearly so, before the transition and after it."""
    kind, _, way = fit.name.partition(" ")
    if kind not in ("push", "cover", "uncover"):
        return True
    across = way in ("left", "right")
    pace = (WIDTH if across else HEIGHT) / (last - first + 2)
    limit = max(1.0, AT_REST * pace * REST)
    sign = sum(WAYS[way])
    ends = []
    if kind != "cover" and first - 1 - REST >= 0:
        ends.append((first - 1 - REST, first - 1))
    if kind != "uncover" and last + 1 + REST < len(footage):
        ends.append((last + 1, last + 1 + REST))
    return all(sign * _shift(footage.grey[a], footage.grey[b], across) <= limit for a, b in ends)


def _shift(a: np.ndarray, b: np.ndarray, across: bool) -> int:
    """Return the pixels by which b's content has moved to the right, or down."""
    a, b = (a.T, b.T) if across else (a, b)
    reach = len(a) // 3
    errors = {}
    for d in range(-reach, reach + 1):
        one, other = a[max(0, -d) : len(a) - max(0, d)], b[max(0, d) : len(b) - max(0, -d)]
        errors[d] = float(np.abs(one - other).mean())
    return min(errors, key=lambda d: (errors[d], abs(d)))
