"""Brightness that jumps back and forth between frames."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from reelwright.annotate.contract import Annotator, Column, Unmeasurable
from reelwright.evaluation.measures.every_frame import every_frame

CELLS = (16, 9)  # across and down


class Flicker(Annotator):
    """Amplitude of brightness that alternates from frame to frame, by second differences over time.

    A quarter of |x[t-1] - 2 x[t] + x[t+1]| is the amplitude of an alternation, and nearly 0 for steady fades and pans,
    which a plain difference of frames would count.
    """

    name, version = "flicker", 1
    needs = every_frame(72, "gray")
    columns = {
        "flicker": Column(pa.float32(), "amplitude of alternating brightness, mean over cells of the picture", "level"),
        "flicker_global": Column(pa.float32(), "amplitude of alternating brightness of the whole picture", "level"),
    }

    def __call__(self, frames: np.ndarray) -> dict[str, Any]:
        """frames: uint8 [T, H, W]."""
        if len(frames) < 3:
            raise Unmeasurable(f"flicker needs 3 frames, and the video has {len(frames)}")
        cells = np.stack([cv2.resize(f, CELLS, interpolation=cv2.INTER_AREA).astype(np.float32) for f in frames])
        whole = frames.mean((1, 2), dtype=np.float64)
        return {"flicker": _alternation(cells), "flicker_global": _alternation(whole)}


def _alternation(values: np.ndarray) -> float:
    """values: [T, …]."""
    return float(np.abs(values[:-2] - 2 * values[1:-1] + values[2:]).mean() / 4)
