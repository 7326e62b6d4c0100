"""The camera's motion from frame to frame: the similarity that most of the picture, its border first, follows."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import numpy as np

from reelwright.annotate.motion.camera.candidates import Points, Similarity, candidates, likeliest
from reelwright.annotate.motion.camera.noise import noise_level

CELL = 16  # pixels: one tracked point per cell, so that agreement is counted over the picture, not over its details
CORNER = 2e-5  # least eigenvalue (cv2.cornerMinEigenVal) of a point worth tracking
GRAIN = 6e-5  # the same for a standard deviation of the noise of 1 grey level; it grows with the square
BACK = 0.5  # largest error in pixels of a point tracked there and back
NEAR = 0.75  # pixels from the common motion within which a point follows it
STILL = 0.25  # pixels: a point that moved less stands still
SIDES, ENDS = 3.0, 1.0  # more weight at the left and right border, at the upper and lower: subjects stand in the
# middle and are cut off below or above more than at a side
ALONE = 3  # points in a block from which they share its weight
FEWEST = 8  # points below which a step is not measured
NOISIEST = 5.0  # grey levels: a picture rougher than this everywhere is gravel or grass
AGREED = 0.2  # weighted share of points that must follow the common motion for the step to count


@dataclass(frozen=True)
class Steps:
    """Motion of the content between neighbouring frames, about the centre of the picture; T - 1 of each.

    motion: float [T-1, 4]: right and down in pixels, log of the scale, radians clockwise; NaN where not measured.
    agreed: weighted share of the points that follow it. still: share of points that do not move. spread: share of the
    picture's 12 outer and 4 inner blocks (of 4 x 4) in which most points follow it.
    """

    motion: np.ndarray
    agreed: np.ndarray
    still: np.ndarray
    spread: np.ndarray


@dataclass(frozen=True)
class _Tracked(Points):
    """at: float [N, 2], where the points are before, in pixels from the upper left."""

    at: np.ndarray


def measure(frames: np.ndarray, times_s: np.ndarray) -> Steps:
    """Measure the steps between frames, uint8 [T, H, W], at times_s, float [T]."""
    rng = np.random.default_rng(0)
    size = frames.shape[1:]
    points = _tracked(frames)
    of_tracked = iter(candidates([s for s in points if s], rng))
    found = [next(of_tracked) if s else [] for s in points]
    motions = likeliest(found, np.diff(times_s), size)
    rows = [_row(s, motion, size) for s, motion in zip(points, motions, strict=True)]
    table = np.array(rows, np.float64).reshape(-1, 7)
    return Steps(table[:, :4], table[:, 4], table[:, 5], table[:, 6])


def _tracked(frames: np.ndarray) -> list[_Tracked | None]:
    """Of each step; None where too few points are found again."""
    flat = [_flattened(frame) for frame in frames]
    noise = float(np.median([noise_level(frame) for frame in frames[:: max(1, len(frames) // 4)]]))
    corner = CORNER + GRAIN * min(noise, NOISIEST) ** 2
    centre = (np.array(frames.shape[:0:-1]) - 1) / 2
    steps: list[_Tracked | None] = []
    for a, b in pairwise(flat):
        at, to, found = _track(a, b, corner)
        if found.sum() < FEWEST:
            steps.append(None)
            continue
        weight = _weights(at, frames.shape[1:])[found]
        at = at[found]
        p, q = ((points - centre) @ (1, 1j) for points in (at, to[found]))
        steps.append(_Tracked(p, q, weight, NEAR + 0.05 * float(np.median(abs(q - p))), at))
    return steps


def _row(step: _Tracked | None, motion: Similarity | None, size: tuple[int, ...]) -> tuple[float, ...]:
    """Motion (four numbers), agreed, still and spread of a step."""
    if step is None or motion is None:
        return (np.nan,) * 4 + (0.0, 0.0, 0.0)
    follows = abs(motion[0] * step.p + motion[1] - step.q) < step.near
    agreed = float(step.weight @ follows)
    still = float(step.weight @ (abs(step.q - step.p) < STILL))
    described = _described(motion) if agreed > AGREED else (np.nan,) * 4
    return (*described, agreed, still, _spread(step.at, follows, size))


def _described(motion: Similarity) -> tuple[float, float, float, float]:
    a, b = motion
    return b.real, b.imag, float(np.log(abs(a))), float(np.angle(a))


def _flattened(gray: np.ndarray) -> np.ndarray:
    """Without its large light and shade, so that a flash or a change of exposure is no motion: uint8 [H, W]."""
    return cv2.addWeighted(gray, 1, cv2.blur(gray, (31, 31)), -1, 128)


def _track(a: np.ndarray, b: np.ndarray, corner: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points [N, 2] (x, y) of a, where they are in b, and whether they come back when tracked backwards: bool [N]."""
    at = _corners(a, corner)
    if not len(at):
        return at, at, np.zeros(0, bool)
    options: dict[str, Any] = {"winSize": (11, 11), "criteria": (3, 12, 0.02)}
    to, found, _ = cv2.calcOpticalFlowPyrLK(a, b, at, None, maxLevel=3, **options)
    back, returned, _ = cv2.calcOpticalFlowPyrLK(
        b, a, to, at.copy(), maxLevel=0, flags=cv2.OPTFLOW_USE_INITIAL_FLOW, **options
    )
    good = (found & returned)[:, 0].astype(bool) & (np.linalg.norm(back - at, axis=1) < BACK)
    return at.astype(np.float64), to.astype(np.float64), good


def _corners(gray: np.ndarray, corner: float) -> np.ndarray:
    """Return the best corner of each cell: float32 [N, 2]."""
    strength = cv2.cornerMinEigenVal(gray, 5)
    rows, columns = gray.shape[0] // CELL, gray.shape[1] // CELL
    cells = strength[: rows * CELL, : columns * CELL].reshape(rows, CELL, columns, CELL).swapaxes(1, 2)
    cells = cells.reshape(rows, columns, -1)
    inside = cells.argmax(axis=2)
    y, x = np.divmod(inside, CELL)
    y, x = y + CELL * np.arange(rows)[:, None], x + CELL * np.arange(columns)
    return np.stack([x, y], axis=-1)[cells.max(axis=2) > corner].astype(np.float32)


def _weights(at: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Weigh points (x, y), sum 1: more at the border, and less in a block that is full of them.

    A plain wall has fewer points than the subject before it.
    """
    size = np.array(shape[::-1])
    off_centre = 2 * at / size - 1  # 0 at the centre, 1 at the border
    block = _block(at, shape)
    crowd = np.bincount(block, minlength=16)[block]
    weight = (1 + off_centre**2 @ (SIDES, ENDS)) / (crowd + ALONE)
    return weight / weight.sum()


def _spread(at: np.ndarray, follows: np.ndarray, shape: tuple[int, ...]) -> float:
    block = _block(at, shape)
    total, agree = np.bincount(block, minlength=16), np.bincount(block, follows, minlength=16)
    return float((agree > total / 2).sum() / 16)


def _block(at: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the number of the block, of 4 x 4, that each point lies in."""
    return (4 * at / np.array(shape[::-1])).astype(int).clip(0, 3) @ (1, 4)
