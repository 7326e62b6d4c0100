"""Texture statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from reelwright.annotate.contract import Annotator, Column, Frames

LEVELS = 32
OFFSETS = ((0, 1), (1, 1), (1, 0), (1, -1))  # (down, right): 0, 45, 90 and 135 degrees, one pixel away


class Texture(Annotator):
    """Haralick's (1973) statistics of the grey level co-occurrence matrix, mean over four directions and all frames."""

    name, version = "texture", 1
    profiles = ("cpu", "full")
    typical_s = 0.03
    needs = Frames(count=4, height=180, color="gray")
    columns = {
        "glcm_contrast": Column(pa.float32(), "mean squared step between neighbours", "level² of 32 levels"),
        "glcm_energy": Column(pa.float32(), "root of the summed squares of the matrix: 1 is one flat colour", "0 to 1"),
        "glcm_homogeneity": Column(pa.float32(), "closeness of the matrix to its diagonal: 1 is no steps", "0 to 1"),
    }

    def __call__(self, frames: np.ndarray) -> dict[str, Any]:
        """frames: uint8 [T, H, W]."""
        quantised = frames // (256 // LEVELS)
        p = np.stack([cooccurrence(frame, *offset) for frame in quantised for offset in OFFSETS])  # [N, L, L]
        step2 = np.subtract.outer(np.arange(LEVELS), np.arange(LEVELS)) ** 2
        return {
            "glcm_contrast": float((p * step2).sum((1, 2)).mean()),
            "glcm_energy": float(np.sqrt((p**2).sum((1, 2))).mean()),
            "glcm_homogeneity": float((p / (1 + step2)).sum((1, 2)).mean()),
        }


def cooccurrence(levels: np.ndarray, down: int, right: int) -> np.ndarray:
    """Return the symmetric, normalised co-occurrence matrix [LEVELS, LEVELS].

    Args:
        levels: uint8 [H, W] with values below LEVELS.
        down: pixels from a pixel to its neighbour.
        right: the same across.
    """
    height, width = levels.shape
    a = levels[: height - down, max(0, -right) : width - max(0, right)].astype(np.uint16)
    b = levels[down:, max(0, right) : width + min(0, right)]
    counts = np.bincount((a * LEVELS + b).ravel(), minlength=LEVELS**2).reshape(LEVELS, LEVELS)
    both = (counts + counts.T).astype(np.float64)
    return both / max(1.0, both.sum())
