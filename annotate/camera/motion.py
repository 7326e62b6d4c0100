"""What the camera does from frame to frame: the similarity that most of the picture, its border first, follows."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import numpy as np

CELL = 16  # pixels: one tracked point a cell, so that agreement is counted over the picture, not over its details
CORNER = 2e-5  # least eigenvalue (cv2.cornerMinEigenVal) of a point worth tracking
GRAIN = 6e-5  # the same for a standard deviation of the noise of 1 grey level; it grows with the square
BACK = 0.5  # pixels by which a point tracked there and back may miss
NEAR = 0.75  # pixels from the common motion within which a point follows it
STILL = 0.25  # pixels: a point that moved less stands still
SIDES, ENDS = 3.0, 1.0  # more weight at the left and right border, at the upper and lower: subjects stand in the
# middle and are cut off below or above more than at a side
ALONE = 3  # points in a block from which they share its weight
STEADY = 1.25  # preference for going on as in the last step: subjects come and go, cameras are heavy
TRIES = 64  # pairs of points that are tried as the common motion
FEWEST = 8  # points below which a step is not measured
NOISIEST = 5.0  # grey levels: what is rougher everywhere is gravel or grass
_NO_PLANES = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
AGREED = 0.2  # weighted share of points that must follow the common motion for the step to count


@dataclass(frozen=True)
class Steps:
    """Motion of the content between neighbouring frames, about the centre of the picture; T - 1 of each.

    motion: float [T-1, 4]: right and down in pixels, log of the scale, radians clockwise; NaN where not measured.
    agreed: weighted share of the points that follow it. still: of those that do not move. spread: share of the
    picture's 12 outer and 4 inner blocks (of 4 x 4) in which most points follow it.
    """

    motion: np.ndarray
    agreed: np.ndarray
    still: np.ndarray
    spread: np.ndarray


def measure(frames: np.ndarray) -> Steps:
    """frames: uint8 [T, H, W]."""
    rng = np.random.default_rng(0)
    flat = [_flattened(frame) for frame in frames]
    noise = float(np.median([_noise(frame) for frame in frames[:: max(1, len(frames) // 4)]]))
    corner = CORNER + GRAIN * min(noise, NOISIEST) ** 2
    centre = (np.array(frames.shape[:0:-1]) - 1) / 2
    last = (1 + 0j, 0j)
    rows = []
    for a, b in pairwise(flat):
        at, to, found = _track(a, b, corner)
        if found.sum() < FEWEST:
            rows.append((np.nan,) * 4 + (0.0, 0.0, 0.0))
            continue
        weight = _weights(at, frames.shape[1:])[found]  # what is lost follows nothing
        at = at[found]
        p, q = ((points - centre) @ (1, 1j) for points in (at, to[found]))
        last, follows = common_motion(p, q, weight, rng, last)
        agreed, still = float(weight @ follows), float(weight @ (abs(q - p) < STILL))
        row = _described(last) if agreed > AGREED else (np.nan,) * 4
        rows.append((*row, agreed, still, _spread(at, follows, frames.shape[1:])))
    table = np.array(rows, np.float64).reshape(-1, 7)
    return Steps(table[:, :4], table[:, 4], table[:, 5], table[:, 6])


Similarity = tuple[complex, complex]  # q = a p + b, points as complex numbers from the picture's centre


def common_motion(
    p: np.ndarray, q: np.ndarray, weight: np.ndarray, rng: np.random.Generator, last: Similarity
) -> tuple[Similarity, np.ndarray]:
    """The similarity that carries most weight of points p to q (complex [N]), and which points follow it: bool [N].

    RANSAC over pairs of points, with no motion and the last step's motion among the tries, then reweighted least
    squares. A subject can fill half of the picture: what counts is how much of the border and of the rest agrees.
    """
    i, j = rng.integers(0, len(p), (2, TRIES))
    far = abs(p[i] - p[j]) > 0.3 * np.ptp(p.real)
    i, j = i[far], j[far]
    a = np.concatenate([[1, last[0]], (q[i] - q[j]) / (p[i] - p[j])])
    b = np.concatenate([[0, last[1]], q[i] - a[2:] * p[i]])
    near = NEAR + 0.05 * np.median(abs(q - p))
    support = np.clip(1 - _squared(a[:, None] * p + b[:, None] - q) / near**2, 0, None) @ weight
    support[1] *= STEADY
    best = int(np.argmax(support))
    fit = (complex(a[best]), complex(b[best]))
    for _ in range(3):
        fit = _least_squares(p, q, weight * np.clip(1 - _squared(fit[0] * p + fit[1] - q) / near**2, 0, None) ** 2, fit)
    return fit, abs(fit[0] * p + fit[1] - q) < near


def _squared(z: np.ndarray) -> np.ndarray:
    return z.real**2 + z.imag**2


def _least_squares(p: np.ndarray, q: np.ndarray, weight: np.ndarray, otherwise: Similarity) -> Similarity:
    total = weight.sum()
    if total <= 0:
        return otherwise
    p0, q0 = (weight @ p) / total, (weight @ q) / total
    spread = weight @ abs(p - p0) ** 2
    if spread <= 0:
        return otherwise
    a = (weight * (p - p0).conj()) @ (q - q0) / spread
    return complex(a), complex(q0 - a * p0)


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
    """The best corner of each cell: float32 [N, 2]."""
    strength = cv2.cornerMinEigenVal(gray, 5)
    rows, columns = gray.shape[0] // CELL, gray.shape[1] // CELL
    cells = strength[: rows * CELL, : columns * CELL].reshape(rows, CELL, columns, CELL).swapaxes(1, 2)
    cells = cells.reshape(rows, columns, -1)
    inside = cells.argmax(axis=2)
    y, x = np.divmod(inside, CELL)
    y, x = y + CELL * np.arange(rows)[:, None], x + CELL * np.arange(columns)
    return np.stack([x, y], axis=-1)[cells.max(axis=2) > corner].astype(np.float32)


def _noise(gray: np.ndarray) -> float:
    """Standard deviation of a frame's noise (Immerkær, 1996), in the fifth of its cells that have least detail."""
    detail = np.abs(cv2.filter2D(gray, cv2.CV_32F, _NO_PLANES))
    return float(np.percentile(cv2.blur(detail, (9, 9))[::8, ::8], 20) * np.sqrt(np.pi / 2) / 6)


def _weights(at: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Of points (x, y), sum 1: more at the border, and less in a block that is full of them: a plain wall has fewer
    than the subject before it."""
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
    """Number of the block, of 4 x 4, that each point lies in."""
    return (4 * at / np.array(shape[::-1])).astype(int).clip(0, 3) @ (1, 4)
