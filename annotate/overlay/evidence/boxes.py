"""Whether lasting structure is an overlay, which stays while its surroundings change, and the box of the whole mark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from reelwright.annotate.overlay.evidence.persistence import CELL, DETAIL, NOISE, Persistence, agreement, worst

STILL = 0.85  # share of its structure that a cell keeps in its worst frames, from which it is still
MOST = 0.4  # share of the frames in which a place may be covered that counts as still
CROWDED = 0.4  # share of steady cells, about a line or in the picture, from which its parts cannot be separated
RARE = 0.03  # share of steady cells in the picture below which a spot of them is an exception
LEAST_CELLS = 4  # steady ones in a group, below which no line can be told from noise
MARGIN = 32  # pixels around steady cells
REACH = 1.5  # line heights above and below a line, and twice that beside it, within which a mark's other parts lie


class Box(NamedTuple):
    """Pixels of the sampled frames."""

    x: float
    y: float
    w: float
    h: float


@dataclass(frozen=True)
class Evidence:
    """Evidence for one line; all values 0..1.

    stays: the share of its structure that is there in the worst quarter of the frames. holds: what is left of the
    structure where and when its place changes: little where something opaque passes before it. seen_through: share of
    the structure at its place that changes all the same. around: what is left of the structure around it in the frames
    in which that changes. scene_still: share of the detailed cells of the picture that stay in most frames; crowd: in
    every frame. follows: see scene.follows; None: the camera's motion is not known.
    """

    stays: float
    holds: float
    seen_through: float
    around: float
    scene_still: float
    crowd: float
    follows: float | None = None


def weigh(seen: Persistence, box: Box) -> Evidence:
    """Return the evidence on a line of lettering in the lasting picture."""
    inside, near, ring = _masks(seen.energy.shape, box)
    energy = seen.lasting[inside].sum()
    cross, power = seen.kept[:, inside].sum(axis=1), seen.power[:, inside].sum(axis=1)
    size = inside.sum()
    kept = cross / (energy + size)
    rest = np.maximum(0, power - kept**2 * energy)
    novel = rest / (rest + np.maximum(0, kept) ** 2 * energy + NOISE**2 * size)
    spread = cv2.blur(seen.energy, (3, 3))[inside]
    still, crowd = _still(seen, ~near)
    usual = (seen.stays[:, inside] * spread).sum(axis=1) / (spread.sum() + size)
    changed = (seen.novel[:, inside] > 0.5) * spread
    holds = (changed * np.clip(seen.stays[:, inside], -1, 1)).sum() / (changed.sum() + 1)
    return Evidence(
        # L is made of what it is compared with, and R may be what an overlay covers for a while: both must stay
        stays=max(0.0, min(float(worst(np.sort(agreement(each)))) for each in (kept, usual))),
        holds=float(holds),
        seen_through=float(novel.mean()),
        around=_left(seen, ring),
        scene_still=still,
        crowd=crowd,
    )


def grown(seen: Persistence, line: Box, steady: np.ndarray, crowd: float) -> Box:
    """Return the box of the mark that a line belongs to, with ring, bars or frame where these are clear."""
    x0, y0, x1, y1 = _cell_limits(line, steady.shape)
    reach = max(3, round(REACH * line.h / CELL))
    within, core = np.zeros(steady.shape, bool), np.zeros(steady.shape, bool)
    within[max(0, y0 - reach) : y1 + reach, max(0, x0 - 2 * reach) : x1 + 2 * reach] = True
    core[y0:y1, x0:x1] = True
    if max(steady[within & ~core].mean(), crowd) > CROWDED:  # as steady as the mark: margins of a usual logo
        return Box(line.x - 0.7 * line.h, line.y - 0.4 * line.h, line.w + 1.4 * line.h, 1.8 * line.h)
    parts = cv2.morphologyEx(((steady & within) | core).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 5)))
    labels = cv2.connectedComponents(parts, connectivity=8)[1]
    rows, columns = np.nonzero(np.isin(labels, labels[core & (labels > 0)]) & (steady | core))
    return _tight(seen, _of_cells(rows, columns))


def where_steady(steady: np.ndarray) -> tuple[int, int, int, int] | None:
    """Return the part of the picture that steady cells lie in: left, top, right, bottom in pixels, maybe outside of it.

    A margin lets the detector see what surrounds a line. Groups of less than LEAST_CELLS are specks; None: all are.
    """
    parts = cv2.morphologyEx(steady.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 5)))
    groups = cv2.connectedComponentsWithStats(parts, connectivity=8)[2][1:]
    groups = groups[groups[:, cv2.CC_STAT_AREA] >= LEAST_CELLS]
    if not len(groups):
        return None
    x, y, w, h, _ = groups.T * CELL
    return (
        int(x.min()) - MARGIN, int(y.min()) - MARGIN, int((x + w).max()) + MARGIN, int((y + h).max()) + MARGIN
    )  # fmt: skip


def symbols(seen: Persistence, steady: np.ndarray) -> list[Box]:
    """Return marks without lettering: compact spots of steady structure in a picture that has next to none.

    Edges that run one way only are left out: they stay where they are when the picture moves along them.
    """
    if steady.mean() > RARE:
        return []
    parts = cv2.morphologyEx(steady.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3)))
    _, labels, spots, _ = cv2.connectedComponentsWithStats(parts, connectivity=8)
    height, width = steady.shape
    found = []
    for spot in np.argsort(-spots[1:, cv2.CC_STAT_AREA])[:5] + 1:
        x, y, w, h, area = spots[spot]
        inside = x > 0 and y > 0 and x + w < width and y + h < height
        if inside and min(w, h) >= 4 and max(w / width, h / height) < 0.35 and area > 0.4 * w * h:
            box = _tight(seen, _of_cells(*np.nonzero((labels == spot) & steady)))
            if _every_way(seen, box):
                found.append(box)
    return found


def _of_cells(rows: np.ndarray, columns: np.ndarray) -> Box:
    x, y = columns.min() * CELL, rows.min() * CELL
    return Box(x, y, (columns.max() + 1) * CELL - x, (rows.max() + 1) * CELL - y)


def _pixels(seen: Persistence, box: Box) -> np.ndarray:
    return seen.structure[int(box.y) : int(np.ceil(box.y + box.h)), int(box.x) : int(np.ceil(box.x + box.w))]


def _tight(seen: Persistence, box: Box) -> Box:
    """Without the rows and columns at its sides that hold none of its structure; cells are coarse."""
    strength = np.abs(_pixels(seen, box))
    strong = strength > max(NOISE, 0.3 * float(np.percentile(strength, 95)))
    rows, columns = np.flatnonzero(strong.sum(axis=1) > 1), np.flatnonzero(strong.sum(axis=0) > 1)
    if not len(rows) or not len(columns):
        return box
    return Box(box.x + columns[0], box.y + rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0])


def _every_way(seen: Persistence, box: Box) -> bool:
    """Return whether its edges run in different directions, by the eigenvalues of the structure tensor."""
    gy, gx = np.gradient(_pixels(seen, box))
    tensor = np.array([[np.mean(gx * gx), np.mean(gx * gy)], [np.mean(gx * gy), np.mean(gy * gy)]])
    low, high = np.linalg.eigvalsh(tensor)
    return bool(low > 0.2 * high)


def steady_cells(seen: Persistence) -> np.ndarray:
    """Return bool [h, w]: cells whose structure is there in nearly every frame."""
    energy = cv2.blur(seen.energy, (3, 3))
    return (seen.worst > 0.6) & (energy > NOISE**2) & (seen.energy > 0.1 * NOISE**2)


def _left(seen: Persistence, where: np.ndarray) -> float:
    energy = np.minimum(cv2.blur(seen.energy, (3, 3)), 400)[where]
    weight = seen.novel[:, where] * energy
    return float((weight * np.clip(seen.stays[:, where], -1, 1)).sum() / (weight.sum() + 1))


def _still(seen: Persistence, where: np.ndarray) -> tuple[float, float]:
    """Shares of the cells with detail that stay in most frames, and in every frame."""
    passing, lasting = (where & (plane > (1.3 * DETAIL) ** 2) for plane in seen.detail)
    if min(passing.sum(), lasting.sum()) < 40:
        return 1.0, 1.0  # nothing to decide by
    # a passing subject covers a place in a few frames, a camera takes it away in most
    usual = seen.agreement[int(MOST * len(seen.stays))][lasting]
    return float((usual > STILL).mean()), float((seen.worst[passing] > STILL).mean())


def _masks(shape: tuple[int, ...], box: Box) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return bool [h, w] each: the box, the box with a margin of two cells, a ring around that."""
    x0, y0, x1, y1 = _cell_limits(box, shape)
    margin = min(20, max(6, x1 - x0))
    planes = [np.zeros(shape, bool) for _ in range(3)]
    for plane, m in zip(planes, (0, 2, margin), strict=True):
        plane[max(0, y0 - m) : y1 + m, max(0, x0 - m) : x1 + m] = True
    inside, near, wide = planes
    return inside, near, wide & ~near


def _cell_limits(box: Box, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """First and last (excluded) column and row of cells, at least one of each."""
    x0, y0 = (int(np.clip(v // CELL, 0, side - 1)) for v, side in ((box.x, shape[1]), (box.y, shape[0])))
    x1 = int(np.clip(np.ceil((box.x + box.w) / CELL), x0 + 1, shape[1]))
    y1 = int(np.clip(np.ceil((box.y + box.h) / CELL), y0 + 1, shape[0]))
    return x0, y0, x1, y1
