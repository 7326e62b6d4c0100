"""Greys, sizes and sharpness of frames."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np


def scaled(frames: np.ndarray, height: int) -> np.ndarray:
    """Scale frames down so that their shorter side has `height` pixels; smaller ones are left as they are.

    Args:
        frames: uint8 [F, H, W, 3].
        height: pixels.
    """
    rows, columns = frames.shape[1:3]
    scale = height / min(rows, columns)
    if scale >= 1:
        return frames
    size = max(1, round(columns * scale)), max(1, round(rows * scale))
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames])


def greys(frames: np.ndarray, height: int) -> np.ndarray:
    """Return the greys of frames, uint8 [F, h, w], at most `height` pixels across; frames: uint8 [F, H, W, 3]."""
    return np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in scaled(frames, height)])


def sharpness(gray: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
    """Return ln(1 + variance of the Laplacian) per frame, float64 [F]; gray: uint8 [F, H, W]."""
    return np.log1p([cv2.Laplacian(one, cv2.CV_64F).var() for one in gray])
