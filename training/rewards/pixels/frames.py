"""Sizes, colours and sharpness of frames."""

from __future__ import annotations

import cv2
import numpy as np


def scaled(frames: np.ndarray, height: int) -> np.ndarray:
    """Scale frames down so that their shorter side has `height` pixels; smaller ones are left as they are.

    Args:
        frames: uint8 [F, H, W, 3].
        height: pixels, at least 1.
    """
    rows, columns = frames.shape[1:3]
    scale = height / min(rows, columns)
    if scale >= 1:
        return frames
    size = round(columns * scale), round(rows * scale)
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames])


def lab(frames: np.ndarray) -> np.ndarray:
    """Return frames in CIE L*a*b*, float32 [F, H, W, 3], L* from 0 to 100; frames: uint8 [F, H, W, 3], sRGB."""
    return np.stack([cv2.cvtColor(frame.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) for frame in frames])


def sharpness(frames: np.ndarray) -> np.ndarray:
    """Return ln(1 + variance of the Laplacian of the greys) per frame (Pech-Pacheco et al., 2000).

    One squared level is as much as coding noise has.

    Args:
        frames: uint8 [F, H, W, 3].

    Returns:
        float64 [F].
    """
    gray = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    return np.log1p([cv2.Laplacian(one, cv2.CV_64F).var() for one in gray])
