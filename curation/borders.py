"""The picture inside black borders, found over a whole shot.

One frame cannot tell a letterbox from a night sky; many frames of a shot can. A side has a bar where, in every sampled
frame, the outermost rows keep one dark level along their length (sparse text apart), and where that level ends at the
same row along most of the side, in a step, with picture right behind it. Rows stand for rows or columns below: each
side is turned so that row 0 is the outermost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

MAX_BINS = 64  # cells along a row or a column; fine enough for bars of 1/64 of the other side
MIN_BIN_PX = 8  # cells smaller than this would only carry noise
MAX_SAMPLES = 48  # more profiles than this are thinned evenly: they add time, not certainty

RINGING = 0.12  # share of the step at an edge that a codec may leave in the bar
MAX_RINGING = 10.0  # luma
MAX_DRIFT = 4  # luma by which a bar's level may change along its length or in time
MAX_NOISE = 2.5  # standard deviation of a cell over a bar; above it, it is dark texture
FADE_VISIBLE = 0.1  # share of cells that must differ from the bar for a frame to say where the edge is
PERSISTENT = 0.3  # share of visible frames in which a cell shows the edge, for it to count in full
WRITTEN = 0.25  # share of lit cells from which a row inside a bar counts as covered by text
MAX_WRITTEN = 0.6  # share of such rows a bar may have in one frame
MAX_HOLLOW = 0.2  # share of rows without any picture that may follow right behind an edge, or lie inside a crop
UNEQUAL_STEP = 1.6  # times min_step asked of bars that are not alike in thickness
ALIKE_SUPPORT = 0.7  # times min_support asked of a pair that is: two equal bars seldom come by chance
LONE_SUPPORT = 0.75  # support asked of a bar whose opposite side has none: dark floors and skies come alone
MAX_MIRROR_LIT = 0.01  # share of lit cells in such a bar: none, but for a speck
MIRROR_SUPPORT = 0.35  # support from which a bar may vouch for its mirror image, whose own edge is too dark to see


@dataclass(frozen=True)
class Crop:
    """Rectangle in pixels of the upright frame; all four numbers are even (a side of 1 px stays)."""

    x: int
    y: int
    w: int
    h: int


@dataclass(frozen=True)
class Profile:
    """Mean luma of short cells of one frame: about 64 bytes per row and per column."""

    rows: np.ndarray  # uint8 [H, bins along x]
    columns: np.ndarray  # uint8 [W, bins along y]


class BorderConfig(BaseModel):
    """When dark rows at a side of the frame are taken for a border."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(True, description="look for black bars and cut them off")
    max_luma: float = Field(default=40, ge=0, le=128, description="brightest bar, full-range luma (0..255)")
    min_step: float = Field(default=5, ge=1, description="luma between bar and picture at their edge")
    min_support: float = Field(default=0.5, gt=0, le=1, description="share of a side's length that shows the edge")
    min_bar: float = Field(default=0.004, ge=0, lt=0.5, description="thinnest bar, share of the frame's side; 2 px up")
    min_picture: float = Field(default=0.2, gt=0, le=1, description="smallest picture, share of each side of the frame")


def profile(luma: np.ndarray) -> Profile:
    """Reduce one upright frame to what `find_crop` needs.

    luma: uint8 [H, W], full range: what PyAV's `frame.reformat(format="gray")` gives, which maps limited-range black
    (16) to 0. Takes about 1.3 ms at 1080p.
    """
    if luma.dtype != np.uint8 or luma.ndim != 2:
        raise ValueError(f"profile: luma is {luma.dtype} {list(luma.shape)}, expected uint8 [H, W]")
    luma = np.ascontiguousarray(luma)
    return Profile(rows=_cell_means(cv2.transpose(luma)), columns=_cell_means(luma))


def find_crop(profiles: Sequence[Profile], width: int, height: int, config: BorderConfig | None = None) -> Crop:
    """Return the picture's rectangle in one shot; the whole frame where in doubt.

    Edges are rounded inwards to even pixels. Sample inside the shot: a frame of a neighbouring shot without bars
    forbids them here.

    Args:
        profiles: profiles of frames sampled over the shot.
        width: frame width in pixels.
        height: frame height in pixels.
        config: thresholds; the defaults if None.
    """
    config = config or BorderConfig()
    full = (0, 0, width, height)
    if not config.enabled or not profiles:
        return _even(full)
    stride = math.ceil(len(profiles) / MAX_SAMPLES)
    kept = profiles[::stride]
    if any(p.rows.shape[0] != height or p.columns.shape[0] != width for p in kept):
        raise ValueError(f"find_crop: a profile is not of a {width}x{height} frame; pass the profiled frames' size")
    rows = np.stack([p.rows for p in kept])  # [T, H, bins]
    columns = np.stack([p.columns for p in kept])  # [T, W, bins]
    # The first pass sees cells that run over side bars; each further one looks at the cells inside the last rectangle.
    box = full
    for first in (True, False, False):
        x0, y0, x1, y1 = box
        top, bottom = _bars(rows, _inside(x0, x1, width, rows.shape[2]), first, config)
        left, right = _bars(columns, _inside(y0, y1, height, columns.shape[2]), first, config)
        found = (left, top, width - right, height - bottom)
        if found == box and not first:
            break
        box = found
    return _even(box if box != full and _is_picture(rows, columns, box, config) else full)


# ---------------------------------------------------------------------------------------------------- profiles


def _cell_means(luma: np.ndarray) -> np.ndarray:
    """uint8 [N, M] -> uint8 [M, bins]: means over cells along the first axis; a rest shorter than a cell is out."""
    length, across = luma.shape
    bins = min(MAX_BINS, max(1, length // MIN_BIN_PX))
    size = math.ceil(length / bins)
    bins = length // size
    sums = luma[: bins * size].reshape(bins, size, across).sum(axis=1, dtype=np.uint16 if size < 257 else np.uint32)
    return np.ascontiguousarray(((sums + size // 2) // size).astype(np.uint8).T)


def _inside(start: int, end: int, length: int, bins: int) -> slice:
    """Cells that lie inside [start, end) px of a side of `length` px; never none."""
    size = math.ceil(length / bins) if bins > 1 else length
    first, last = math.ceil(start / size), min(bins, end // size)
    return slice(first, last) if last > first else slice(min(first, bins - 1), min(first, bins - 1) + 1)


# -------------------------------------------------------------------------------------------------------- bars


@dataclass(frozen=True)
class _Side:
    """A side of the frame with outermost rows that could be a bar, measured against their level."""

    level: float  # luma of the bar
    contrast: np.ndarray  # float32 [N, K]: |luma - bar|, mean over the frames that show any picture
    lit: np.ndarray  # bool [T, N, K]: cells that differ from the bar
    past_ringing: np.ndarray  # bool [T, N, K]: cells that differ by more than ringing of the edge would
    support: np.ndarray  # float [N]: share of the side's length along which the bar ends at this row


@dataclass(frozen=True)
class _Edge:
    """Where a bar ends; with px 0, nowhere."""

    px: int = 0  # thickness of the bar
    support: float = 0.0  # share of the side's length that shows the edge
    step: float = 0.0  # luma between bar and picture
    soft_px: int = 0  # rows the step is blurred over


def _bars(levels: np.ndarray, cells: slice, live_only: bool, config: BorderConfig) -> tuple[int, int]:
    """Thickness in px of the bars at the first and the last row of levels, uint8 [T, N, K]; 0 where there is none."""
    ahead = levels[:, :, cells]
    first, last = (_measure(v, live_only, config) for v in (ahead, ahead[:, ::-1]))
    near, far = _edge(first, config), _edge(last, config)
    near, far = _paired(near, far, (first, last), config.min_support)
    if near.px and far.px:
        alike = abs(near.px - far.px) <= _slack(levels.shape[1])
        paired = (near.support + far.support) / 2 >= config.min_support * (ALIKE_SUPPORT if alike else 1)
        distinct = (near.step + far.step) / 2 >= UNEQUAL_STEP * config.min_step
        return (near.px, far.px) if paired and (alike or distinct) else (0, 0)
    return _alone(near, levels.shape[1], config), _alone(far, levels.shape[1], config)


def _alone(edge: _Edge, count: int, config: BorderConfig) -> int:
    """Bars come in pairs; one that does not must be beyond doubt: screens, floors and curtains end less sharply."""
    distinct = edge.support >= LONE_SUPPORT and edge.step >= UNEQUAL_STEP * config.min_step
    return edge.px if distinct and edge.soft_px <= max(1, count // 1000) else 0


def _measure(levels: np.ndarray, live_only: bool, config: BorderConfig) -> _Side | None:
    """levels: uint8 [T, N, K], row 0 outermost. None if the outermost rows are no bar.

    `live_only` leaves out cells that never show picture: those over side bars.
    """
    count = levels.shape[1]
    rim = levels[:, : max(8, count // 60)]
    # the darker half of the rim passes over a bright line at the frame's edge
    darkest = np.argsort(rim.mean(axis=(0, 2)), kind="stable")[: (rim.shape[1] + 1) // 2]
    outer = rim[:, darkest].astype(np.float32)
    base = np.percentile(outer, 25, axis=(0, 1)).round()  # [K]; low, for bars thinner than the rim
    quiet = outer[:, : max(2, len(darkest) // 2)]
    spread = 1.4826 * float(np.median(np.abs(quiet - np.median(quiet, axis=2, keepdims=True))))
    dark = base <= config.max_luma + 2
    if spread > MAX_NOISE or dark.mean() < 0.5 * config.min_picture:
        return None
    delta = np.clip(4 * spread + 2, 4, 4 * MAX_NOISE)
    level = base.astype(np.uint8)
    contrast = np.maximum(levels, level) - np.minimum(levels, level)  # uint8 [T, N, K]
    lit = contrast > np.uint8(delta)
    if live_only and (live := lit.any(axis=(0, 1))).sum() >= 2:
        base, outer, contrast, lit = base[live], outer[:, :, live], contrast[:, :, live], lit[:, :, live]
    visible = lit.mean(axis=(1, 2)) >= FADE_VISIBLE
    low, median, high = np.percentile(base, [10, 50, 90])
    in_time = np.percentile(outer, 25, axis=(1, 2))  # [T]
    if not visible.any() or median > config.max_luma + 2 or high - low > MAX_DRIFT or np.ptp(in_time) > MAX_DRIFT:
        return None
    mean = contrast[visible].mean(axis=0, dtype=np.float32)  # [N, K]
    # next to a bright picture the codec's ringing is a share of the step, and may exceed the noise of the bar
    ringing = np.clip(RINGING * np.percentile(mean, 90, axis=0), delta, max(delta, MAX_RINGING))  # [K]
    past_ringing = contrast > ringing.astype(np.uint8)
    return _Side(
        float(median), lit=lit, contrast=mean, past_ringing=past_ringing, support=_support(past_ringing[visible])
    )


def _slack(count: int) -> int:
    """Rows by which soft edges let one edge wander along its side."""
    return max(2, round(0.003 * count))


def _support(lit: np.ndarray) -> np.ndarray:
    """lit: bool [T, N, K] -> float [N]: share of cells whose bar ends within `_slack` rows of each row."""
    frames, count, cells = lit.shape
    run, slack = 3, _slack(count)
    ends = np.zeros((frames, count, cells), bool)
    if count <= 2 * run:
        return np.zeros(count)
    # row y begins the picture: `run` lit rows from it on, `run` dark ones before it (as many as there are at the rim)
    dark = np.concatenate([np.ones((frames, run, cells), bool), ~lit], axis=1)
    ends[:, : count - run] = np.logical_and.reduce([lit[:, i : count - run + i] for i in range(run)])
    ends &= np.logical_and.reduce([dark[:, i : i + count] for i in range(run)])
    near = np.zeros_like(ends)
    for shift in range(-slack, slack + 1):
        near[:, max(0, shift) : count + min(0, shift)] |= ends[:, max(0, -shift) : count - max(0, shift)]
    share = near.mean(axis=0, dtype=np.float32)  # [N, K] of the visible frames
    return np.minimum(1, share / PERSISTENT).mean(axis=1)


def _edge(side: _Side | None, config: BorderConfig) -> _Edge:
    """Find the best supported row at which a bar ends, if the bar is clean up to it and picture follows."""
    if side is None:
        return _Edge()
    count = side.support.size
    first, last = _min_bar_px(count, config), int(count * (1 - config.min_picture))
    order = first + np.argsort(-side.support[first : last + 1], kind="stable")
    for y in order:
        if side.support[y] < 0.5 * config.min_support:
            break
        flat = side.support[y : y + 2 * _slack(count) + 1] >= side.support[y] - 1e-9
        run = flat.size if flat.all() else int(flat.argmin())  # `_slack` makes a plateau of a sharp edge
        edge = _refine(side, int(y) + (run - 1) // 2, config)
        if edge.px >= first and _is_clean(side, edge.px) and _has_picture_behind(side.lit, edge.px):
            return replace(edge, support=float(side.support[y]))
    return _Edge()


def _min_bar_px(count: int, config: BorderConfig) -> int:
    return max(2, round(config.min_bar * count))


def _refine(side: _Side, y: int, config: BorderConfig) -> _Edge:
    """Place the edge near row y at the first row past half of the step; none where luma only ramps up."""
    count, reach = side.support.size, _slack(side.support.size) + 1
    before, after = max(0, y - reach), min(count - 1, y + reach)
    carries = side.contrast[after : after + reach].mean(axis=0) > config.min_step / 2  # [K] cells that see the step
    if not carries.any():
        return _Edge()
    rise = side.contrast[:, carries].mean(axis=1)  # [N]
    rise = np.maximum(0, rise - np.median(rise[: max(1, before)]))
    inside = float(np.median(rise[after : after + 2 * reach]))
    further = float(rise[min(count - 1, after + 2 * reach)] - rise[after])
    if inside < config.min_step or rise[after] - rise[before] < 1.5 * further:
        return _Edge()
    around = rise[before : after + 1]
    past_half = int(np.argmax(around >= 0.5 * inside))
    if around[past_half] < 0.5 * inside:
        return _Edge()
    soft_px = int(((around > 0.1 * inside) & (around < 0.75 * inside)).sum())
    return _Edge(before + past_half, step=inside, soft_px=soft_px) if soft_px <= reach else _Edge()


def _is_clean(side: _Side, y: int) -> bool:
    """Return whether rows [0, y) are bar in every frame: text is sparse and keeps clear of the picture."""
    slack = _slack(side.support.size)
    end = max(1, y - slack)
    written = (side.lit[:, :end].mean(axis=2) > WRITTEN).mean(axis=1)  # [T] share of rows
    gap = side.past_ringing[:, max(0, end - slack) : end].mean(axis=(1, 2))  # [T] share lit right outside the edge
    return bool((written <= MAX_WRITTEN).all() and (gap <= WRITTEN).all())


def _has_picture_behind(lit: np.ndarray, y: int) -> bool:
    """Return whether picture, not a line of text with bar behind it, follows row y."""
    behind = lit[:, y + 1 : y + 1 + max(8, lit.shape[1] // 7)]
    return bool((~behind.any(axis=(0, 2))).mean() <= MAX_HOLLOW)


def _paired(
    near: _Edge, far: _Edge, sides: tuple[_Side | None, _Side | None], min_support: float
) -> tuple[_Edge, _Edge]:
    """Confirm each edge by the other one.

    An edge whose mirror image is taken stays, or nothing would be left of the pair.
    """
    first = _reconciled(near, far, sides, min_support)
    last = _reconciled(far, near, sides[::-1], min_support)
    if far.px and first is far:
        return far, far
    if near.px and last is near:
        return near, near
    return first, last


def _reconciled(edge: _Edge, opposite: _Edge, sides: tuple[_Side | None, _Side | None], min_support: float) -> _Edge:
    """Return the edge if it is well seen or as thick as the opposite bar; else that bar's mirror image if it fits.

    sides: the edge's own side, then the opposite one.
    """
    own, other = sides
    if own is None or other is None:
        return edge
    if edge.support >= min_support or abs(edge.px - opposite.px) <= _slack(own.support.size):
        return edge
    if opposite.support < MIRROR_SUPPORT or abs(own.level - other.level) > MAX_DRIFT:
        return _Edge()
    return opposite if own.lit[:, : opposite.px].mean() <= MAX_MIRROR_LIT else _Edge()


def _is_picture(rows: np.ndarray, columns: np.ndarray, box: tuple[int, int, int, int], config: BorderConfig) -> bool:
    """Return whether the rectangle is large and filled enough to be a picture, not a title on black."""
    x0, y0, x1, y1 = box
    width, height = columns.shape[1], rows.shape[1]
    if x1 - x0 < config.min_picture * width or y1 - y0 < config.min_picture * height:
        return False
    bars = [rows[:, :y0], rows[:, y1:], columns[:, :x0], columns[:, x1:]]
    level = float(np.median(np.concatenate([b.ravel() for b in bars])))
    for levels, start, end, cells in (
        (rows, y0, y1, _inside(x0, x1, width, rows.shape[2])),
        (columns, x0, x1, _inside(y0, y1, height, columns.shape[2])),
    ):
        inner = levels[:, start:end, cells]
        apart = np.maximum(inner.max(axis=(0, 2)) - level, level - inner.min(axis=(0, 2)))  # [end - start] luma
        if (apart <= config.min_step).mean() > MAX_HOLLOW:
            return False
    return True


def _even(box: tuple[int, int, int, int]) -> Crop:
    """Round inwards to even pixels: 4:2:0 chroma has one sample for two, and no row of the border may stay."""
    x0, y0, x1, y1 = box[0] + box[0] % 2, box[1] + box[1] % 2, box[2] - box[2] % 2, box[3] - box[3] % 2
    return Crop(x0, y0, max(1, x1 - x0), max(1, y1 - y0))
