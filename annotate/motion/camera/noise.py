"""How noisy a frame is, wherever it shows least."""

from __future__ import annotations

import cv2
import numpy as np

NO_PLANES = np.array([1, -2, 1], np.float32)  # along the rows, then along the columns: 0 on every plane of grey levels
CELL, STRIDE = (9, 9), 8  # pixels


def noise_level(gray: np.ndarray) -> float:
    """Return the standard deviation of a frame's noise (Immerkær, 1996), in grey levels.

    It is that of the fifth of the cells with least detail.

    Args:
        gray: uint8 [H, W].
    """
    detail = np.abs(cv2.sepFilter2D(gray, cv2.CV_32F, NO_PLANES, NO_PLANES))
    return float(np.percentile(cv2.blur(detail, CELL)[::STRIDE, ::STRIDE], 20) * np.sqrt(np.pi / 2) / 6)
