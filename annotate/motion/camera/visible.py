"""Whether a filmed clip shows its background: one that cannot be seen to stand still or move has no truth.

The virtual camera knows the background as it would look alone and where nothing stands before it, so the clip as shown
(light, grain, blur, compression) is compared with that. Nothing of the annotator's own measurement is used.
"""

from __future__ import annotations

import cv2
import numpy as np

CELL = 16  # pixels, of frames of 144 pixels as the annotator takes them
PLAIN = 1.0  # grey levels a pixel: the least slope that is plain to see
ABOVE_NOISE = 0.5  # slope in standard deviations of the noise: places a cell to 2**0.5 / (16 * 0.5) = 0.18 pixels
BLOCKS = 0.25  # share of the 4 x 4 blocks in which some cell must show the background
COVERED = 0.5  # share of a block from which it is the subject's
FRAMES = 0.75  # share of the frames in which so many must
CHECKED = 6  # frames that are looked at, evenly over the clip


def background_shows(shown: np.ndarray, alone: np.ndarray, free: np.ndarray) -> bool:
    """Return whether enough of the background can be seen to tell its motion.

    Args:
        shown: uint8 [T, H, W], frames as the annotator gets them.
        alone: float [T, H, W], the background without light, grain, subjects or compression.
        free: bool [T, H, W], where nothing stands before the background.
    """
    shares = np.array([shares_of_blocks(*frame) for frame in zip(shown, alone, free, strict=True)])
    return bool(np.mean((shares[:, 0] >= BLOCKS) & (shares[:, 0] >= shares[:, 1])) >= FRAMES)


def shares_of_blocks(shown: np.ndarray, alone: np.ndarray, free: np.ndarray) -> tuple[float, float]:
    """Return the shares of a frame's 16 blocks that show the background, and that are mostly covered."""
    showing = _blocks(_seen(shown, alone, free)) > 0
    covered = _blocks(1 - _mean(free)) >= COVERED
    return float(showing.mean()), float(covered.mean())


def _blocks(cells: np.ndarray) -> np.ndarray:
    """Mean of each block's cells: [16]."""
    rows, columns = (4 * np.arange(n) // n for n in cells.shape)
    block = (4 * rows[:, None] + columns).ravel()
    return np.bincount(block, cells.ravel()) / np.bincount(block)


def _seen(shown: np.ndarray, alone: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Return the cells in which the background has visible edges in all directions: bool [rows, columns].

    The shown picture is contrast * background + noise, by least squares over the cell: texture that darkness or
    compression took away is lost contrast, all else is noise. The slope is the root of the structure tensor's lesser
    eigenvalue, the mean square slope in the direction with least.
    """
    shown, alone = shown.astype(np.float64), alone.astype(np.float64)
    variance = _mean(alone**2) - _mean(alone) ** 2
    covariance = _mean(alone * shown) - _mean(alone) * _mean(shown)
    contrast = np.clip(covariance / (variance + 1e-9), 0, None)
    noise = np.sqrt(np.clip(_mean(shown**2) - _mean(shown) ** 2 - contrast * covariance, 0, None))
    dx, dy = (cv2.Sobel(alone, cv2.CV_64F, *order, scale=1 / 8) for order in ((1, 0), (0, 1)))
    xx, yy, xy = _mean(dx * dx), _mean(dy * dy), _mean(dx * dy)
    least = (xx + yy) / 2 - np.hypot((xx - yy) / 2, xy)
    slope = contrast * np.sqrt(np.clip(least, 0, None))
    return (_mean(free) > 0.9) & (slope > np.maximum(PLAIN, ABOVE_NOISE * noise))


def _mean(values: np.ndarray) -> np.ndarray:
    """Over each cell."""
    rows, columns = values.shape[0] // CELL, values.shape[1] // CELL
    return values[: rows * CELL, : columns * CELL].reshape(rows, CELL, columns, CELL).mean(axis=(1, 3))
