"""Sharpness."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from reelwright.annotate.contract import Annotator, Column, Frames


class Blur(Annotator):
    """Sharpness by variance of the Laplacian (Pech-Pacheco et al., 2000), at a fixed height so that sizes compare.

    It compares clips of like content: a sharp cloud scores below a soft hedge.
    """

    name, version = "blur", 1
    profiles = ("cpu", "full")
    typical_s = 0.02
    needs = Frames(count=8, height=360, color="gray")
    columns = {
        "blur_score": Column(pa.float32(), "median variance of the Laplacian over frames; higher is sharper", "level²"),
        "blur_worst": Column(pa.float32(), "lowest variance of the Laplacian of the sampled frames", "level²"),
    }

    def __call__(self, frames: np.ndarray) -> dict[str, Any]:
        """frames: uint8 [T, H, W]."""
        sharpness = [cv2.Laplacian(f, cv2.CV_32F).var() for f in frames]
        return {"blur_score": float(np.median(sharpness)), "blur_worst": float(min(sharpness))}
