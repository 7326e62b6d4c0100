"""Frames that a video shows again: it stands, or it runs in a loop."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from reelwright.annotate.contract import Annotator, Column, Facts, Unmeasurable
from reelwright.curation.media.frames import ClipFacts
from reelwright.evaluation.measures.every_frame import every_frame

CELLS = (32, 18)  # across and down
SAME = 0.4  # grey levels between equal frames, mean over cells; coding noise of a still picture stays below
LEFT = 5.0  # times SAME: the picture changed by so much in between, so that a return is one
LOOP_S = 1.0  # seconds, before which a frame is not called a return
MOST = 512  # frames that are compared all with all


class Repetition(Annotator):
    """Share of frames that equal the one before, and of those that equal a frame of at least a second earlier."""

    name, version = "repetition", 1
    needs = (every_frame(72, "gray"), Facts())
    columns = {
        "repeated_share": Column(pa.float32(), "frames that equal the frame before", "share of frames"),
        "loop_share": Column(pa.float32(), "frames that return to one of a second or more before", "share of frames"),
    }

    def __call__(self, frames: np.ndarray, clip: ClipFacts) -> dict[str, Any]:
        """frames: uint8 [T, H, W]."""
        if len(frames) < 2:
            raise Unmeasurable("repetition needs two frames, and the video has one")
        cells = np.stack([cv2.resize(f, CELLS, interpolation=cv2.INTER_AREA) for f in frames]).astype(np.float32)
        cells = cells.reshape(len(cells), -1)
        stands = np.abs(np.diff(cells, axis=0)).mean(1) < SAME
        return {"repeated_share": float(stands.mean()), "loop_share": _loops(cells, clip.fps)}


def _loops(cells: np.ndarray, fps: float) -> float:
    """Return the share of frames that equal an earlier one from which the picture has gone away in between."""
    step = -(-len(cells) // MOST)
    cells = cells[::step]
    apart = max(1, round(LOOP_S * fps / step))
    returns = 0
    for t in range(apart, len(cells)):
        distances = np.abs(cells[: t + 1] - cells[t]).mean(1)
        for s in np.flatnonzero(distances[: t - apart + 1] < SAME):
            if distances[s:t].max(initial=0.0) > LEFT * SAME:
                returns += 1
                break
    return returns / len(cells)
