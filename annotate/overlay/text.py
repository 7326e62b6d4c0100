"""Text burned into the picture: subtitles, titles, credits, clocks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from reelwright.annotate.backends.text_detector import TextDetector
from reelwright.annotate.contract import Annotator, Column, Frames

SUBTITLE_FROM = 0.7  # a subtitle's middle lies below this share of the height
UNCHANGED = 10  # grey levels: frames that differ by less in every 8 x 8 block share one detection


@dataclass(frozen=True)
class Text(Annotator):
    """Share of the picture under text, by tight boxes around the lines that a detector finds (see TextDetector).

    The frame with most text counts, as a subtitle shows part of the time. Lettering in the scene (signs, shirts) counts
    where it is as plain as a title.

    Args:
        min_probability: the detector's mean probability over a line from which it counts as text.
    """

    min_probability: float = 0.88

    name, version = "text", 2
    profiles = ("cpu", "full")
    typical_s = 0.12
    needs = Frames(count=3, height=288, color="rgb")
    columns = {
        "text_coverage": Column(pa.float32(), "area of text lines in the sampled frame with most", "share of frame"),
        "text_largest": Column(pa.float32(), "area of the largest line of text", "share of frame"),
        "text_subtitle": Column(pa.float32(), "sampled frames with a line in the lowest 30 %", "share of frames"),
    }

    @property
    def models(self) -> tuple[str, ...]:
        """The text detector."""
        return (self._detector.model_id,)

    @cached_property
    def _detector(self) -> TextDetector:
        return TextDetector(self.min_probability)

    def __call__(self, frames: np.ndarray) -> dict[str, Any]:
        """frames: uint8 [T, H, W, 3]."""
        found: list[np.ndarray] = []
        for k, frame in enumerate(frames):
            found.append(found[-1] if k and _same(frame, frames[k - 1]) else self._detector.lines(frame))
        height, width = frames.shape[1:3]
        areas = [cv2.contourArea(line) / (height * width) for lines in found for line in lines]
        low = [any(line[:, 1].mean() > SUBTITLE_FROM * height for line in lines) for lines in found]
        return {
            "text_coverage": max(_union(lines, height, width) for lines in found),
            "text_largest": max(areas, default=0.0),
            "text_subtitle": sum(low) / len(low),
        }


def _union(lines: np.ndarray, height: int, width: int, fine: int = 4) -> float:
    """Share of the frame under the lines, drawn `fine` times larger, as filling adds half a pixel on every side."""
    if not len(lines):
        return 0.0
    mask = np.zeros((height * fine, width * fine), np.uint8)
    for line in lines:
        cv2.fillConvexPoly(mask, np.round(line * fine - 0.5).astype(np.int32), 1)
    return float(mask.mean())


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    difference = cv2.absdiff(a, b)
    if min(difference.shape[:2]) < 8:  # a ribbon, with no blocks
        return difference.max() < UNCHANGED
    return cv2.resize(difference, None, fx=1 / 8, fy=1 / 8, interpolation=cv2.INTER_AREA).max() < UNCHANGED
