"""Which lasting line of lettering is an overlay: it stays while its surroundings change; and the box of the whole mark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from annotate.overlay.persistence import CELL, DETAIL, NOISE, Persistence

STILL = 0.85  # share of its structure that a cell keeps in its worst frames, from which it is still
REACH = 1.5  # line heights above and below a line, and twice that beside it, within which a mark's other parts lie


class Box(NamedTuple):
    """Pixels of the sampled frames."""

    x: float
    y: float
    w: float
    h: float


@dataclass(frozen=True)
class Evidence:
    """Of one line; all 0..1.

    stays: the share of its structure that is there in the worst quarter of the frames. seen_through: share of the
    structure at its place that changes all the same. around: what is left of the structure around it in the frames in
    which that changes. scene_still: share of the detailed cells of the picture that stay in every frame.
    """

    stays: float
    seen_through: float
    around: float
    scene_still: float


def weigh(seen: Persistence, box: Box) -> Evidence:
    """What the measures say of a line of lettering in the lasting picture."""
    inside, near, ring = _masks(seen.energy.shape, box)
    energy = seen.lasting[inside].sum()
    cross, power = seen.kept[:, inside].sum(axis=1), seen.power[:, inside].sum(axis=1)
    size = inside.sum()
    kept = cross / (energy + size)
    rest = np.maximum(0, power - kept**2 * energy)
    novel = rest / (rest + np.maximum(0, kept) ** 2 * energy + NOISE**2 * size)
    spread = cv2.blur(seen.energy, (3, 3))[inside]
    usual = (seen.stays[:, inside] * spread).sum(axis=1) / (spread.sum() + size)
    return Evidence(
        # L is made of what it is compared with, and R may be what an overlay covers for a while: both must stay
        stays=max(0.0, min(_worst(_agreement(kept)), _worst(_agreement(usual)))),
        seen_through=float(novel.mean()),
        around=_left(seen, ring),
        scene_still=_still(seen, ~near),
    )


def grown(seen: Persistence, line: Box, steady: np.ndarray) -> Box:
    """The box of the mark that a line belongs to: with ring, bars or frame where these can be told from the scene."""
    height, width = seen.energy.shape
    x0, y0, x1, y1 = _cell_limits(line, seen.energy.shape)
    reach = max(3, round(REACH * line.h / CELL))
    window = (slice(max(0, y0 - reach), min(height, y1 + reach)), slice(max(0, x0 - 2 * reach), min(width, x1 + 2 * reach)))
    within = np.zeros((height, width), bool)
    within[window] = True
    core = np.zeros((height, width), np.uint8)
    core[y0:y1, x0:x1] = 1
    outside = within & (core == 0)
    if steady[outside].mean() > 0.4:  # the scene is as steady as the mark: margins of a usual logo
        return Box(line.x - 0.8 * line.h, line.y - 0.45 * line.h, line.w + 1.6 * line.h, 1.9 * line.h)
    parts = cv2.morphologyEx(((steady & within) | (core > 0)).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 5)))
    count, labels = cv2.connectedComponents(parts, connectivity=8)
    rows, columns = np.nonzero(np.isin(labels, np.unique(labels[(core > 0) & (labels > 0)])) & (steady | (core > 0)))
    x, y = min(columns.min() * CELL, line.x), min(rows.min() * CELL, line.y)
    right, bottom = max((columns.max() + 1) * CELL, line.x + line.w), max((rows.max() + 1) * CELL, line.y + line.h)
    return Box(x, y, right - x, bottom - y)


def steady_cells(seen: Persistence) -> np.ndarray:
    """bool [h, w]: cells whose structure is there in nearly every frame."""
    energy = cv2.blur(seen.energy, (3, 3))
    return (_worst(_agreement(seen.stays)) > 0.6) & (energy > NOISE**2) & (seen.energy > 0.1 * NOISE**2)


def _agreement(kept: np.ndarray) -> np.ndarray:
    """1 where structure is as strong as in the median picture; a translucent mark is up to three times so before
    another background, lettering that comes and goes is more."""
    return np.where(kept > 3, 3 / np.maximum(kept, 3), np.clip(kept, -1, 1))


def _worst(agreement: np.ndarray) -> np.ndarray:
    """Mean of the lowest quarter of the frames."""
    return np.sort(agreement, axis=0)[: max(1, len(agreement) // 4)].mean(axis=0)


def _left(seen: Persistence, where: np.ndarray) -> float:
    energy = np.minimum(cv2.blur(seen.energy, (3, 3)), 400)[where]
    weight = seen.novel[:, where] * energy
    return float((weight * np.clip(seen.stays[:, where], -1, 1)).sum() / (weight.sum() + 1))


def _still(seen: Persistence, where: np.ndarray) -> float:
    detailed = where & (cv2.blur(seen.power.mean(axis=0), (3, 3)) > (1.3 * DETAIL) ** 2)
    if detailed.sum() < 40:
        return 1.0  # nothing by which to tell
    return float((_worst(_agreement(seen.stays[:, detailed])) > STILL).mean())


def _masks(shape: tuple[int, ...], box: Box) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """bool [h, w] each: the box, the box with a margin of two cells, a ring around that."""
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
