"""Brightness, contrast, colour; black and frozen stretches."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from reelwright.annotate.contract import Annotator, Column, Frames

BLACK = 32  # grey level (full range) below which a pixel is black
NEARLY_ALL = 0.98  # share of black pixels that makes a frame black (as ffmpeg's blackdetect)
FROZEN = 0.1  # mean grey levels between consecutive frames; re-encoded identical frames stay below


class Light(Annotator):
    """Exposure, colourfulness (Hasler & Süsstrunk, 2003) and the shares of time that show nothing, or nothing new."""

    name, version = "light", 1
    profiles = ("cpu", "full")
    typical_s = 0.01
    needs = (Frames(count=4, height=90, color="rgb"), Frames(count=12, height=144, pairs=True))
    columns = {
        "brightness": Column(pa.float32(), "mean grey level", "level, 0 to 255"),
        "contrast": Column(pa.float32(), "standard deviation of grey levels inside frames, mean over frames", "level"),
        "colorfulness": Column(pa.float32(), "Hasler & Süsstrunk's M: 15 slightly, 45 quite, 82 highly colourful"),
        "black_share": Column(pa.float32(), "sampled frames that are nearly all black", "share of frames"),
        "frozen_share": Column(pa.float32(), "sampled frames that the next frame repeats", "share of frames"),
    }

    def __call__(self, colors: np.ndarray, pairs: np.ndarray) -> dict[str, Any]:
        """colors: uint8 [T, H, W, 3]; pairs: uint8 [T, 2, H, W]."""
        first = pairs[:, 0]
        black = (first < BLACK).mean(axis=(1, 2)) >= NEARLY_ALL
        change = [cv2.absdiff(a, b).mean() for a, b in pairs]
        return {
            "brightness": float(first.mean()),
            "contrast": float(first.std(axis=(1, 2)).mean()),
            "colorfulness": float(np.mean([colorfulness(frame) for frame in colors])),
            "black_share": float(black.mean()),
            "frozen_share": float(np.mean(np.array(change) < FROZEN)),
        }


def colorfulness(rgb: np.ndarray) -> float:
    """Return the spread and distance from grey in the opponent colours (Hasler & Süsstrunk, 2003, eq. 3).

    Args:
        rgb: uint8 [H, W, 3].
    """
    r, g, b = (plane.astype(np.float32) for plane in cv2.split(rgb))
    rg, yb = r - g, (r + g) / 2 - b
    return float(np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean()))
