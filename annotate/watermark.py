"""Static overlays: logos, channel bugs, semi-transparent marks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from annotate.backends.text_detector import TextDetector
from annotate.contract import Annotator, Column, Facts, Frames
from annotate.overlay.boxes import Box, Evidence, grown, steady_cells, symbols, weigh
from annotate.overlay.persistence import Persistence, measure
from curation.media.frames import ClipFacts

LEAST_FRAMES = 6  # below, next to nothing can be said to last
CORNER = 0.4  # score of steady lettering in a corner of a picture that does not move


@dataclass(frozen=True)
class Watermark(Annotator):
    """Finds lettering that stays while the picture changes."""

    claim_from: float = 0.3
    min_probability: float = 0.6

    name, version = "watermark", 1
    needs = (Frames(count=16, height=360, color="gray"), Facts())
    columns = {
        "watermark_score": Column(pa.float32(), "how surely a static overlay lies over the picture", "0 to 1"),
        "watermark_box": Column(pa.list_(pa.float32()), "x, y, w, h of the overlay; none claimed: null", "pixels"),
    }

    @property
    def models(self) -> tuple[str, ...]:
        return (self._detector.model_id,)

    @cached_property
    def _detector(self) -> TextDetector:
        return TextDetector(self.min_probability)

    def __call__(self, frames: np.ndarray, clip: ClipFacts) -> dict[str, Any]:
        """frames: uint8 [T, H, W]."""
        nothing = {"watermark_score": 0.0, "watermark_box": None}
        if len(frames) < LEAST_FRAMES:
            return nothing
        seen = measure(frames)
        steady = steady_cells(seen)
        shape = frames.shape[1:]
        found = [(score(weigh(seen, line), line, shape), grown(seen, line, steady)) for line in self._lines(seen.picture)]
        found += [(symbol_score(weigh(seen, box)), box) for box in symbols(seen, steady)]
        best, box = max(found, default=(0.0, None), key=lambda f: f[0])
        if box is None or best < self.claim_from:
            return nothing | {"watermark_score": best}
        scale = clip.width / frames.shape[2], clip.height / frames.shape[1]
        return {"watermark_score": best, "watermark_box": _in_clip(box, scale, clip)}

    def _lines(self, picture: np.ndarray) -> list[Box]:
        corners = self._detector.lines(cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB))
        low, high = corners.min(axis=1, initial=np.inf), corners.max(axis=1, initial=-np.inf)
        return [Box(*map(float, (x, y, right - x, bottom - y))) for (x, y), (right, bottom) in zip(low, high)]


def score(evidence: Evidence, line: Box, shape: tuple[int, ...]) -> float:
    height, width = shape
    if _is_caption(line, evidence, height, width):
        return 0.0
    through = _ramp(evidence.seen_through, 0.06, 0.2)
    camera = _ramp(evidence.scene_still, 0.35, 0.1)
    changed = _ramp(evidence.around, 0.7, 0.45) * max(through, camera)
    prior = CORNER if _in_corner(line, height, width) else 0.0
    return _ramp(evidence.stays, 0.5, 0.75) * (prior + (1 - prior) * changed)


def symbol_score(evidence: Evidence) -> float:
    """Of a mark without lettering: only a camera that moves can tell it from the scene."""
    camera = _ramp(evidence.scene_still, 0.15, 0.05)
    return 0.8 * _ramp(evidence.stays, 0.6, 0.85) * _ramp(evidence.around, 0.6, 0.35) * camera


def _is_caption(line: Box, evidence: Evidence, height: int, width: int) -> bool:
    """Subtitles and titles: a line in the middle of the lowest 30 %, or lettering taller than a mark's, that lets
    nothing of the picture through."""
    across, down = (line.x + line.w / 2) / width, (line.y + line.h / 2) / height
    subtitle = down > 0.7 and abs(across - 0.5) < 0.1
    return (subtitle or line.h > 0.12 * min(height, width)) and evidence.seen_through < 0.1


def _in_corner(line: Box, height: int, width: int) -> bool:
    side = min(line.x, width - line.x - line.w) / width
    end = min(line.y, height - line.y - line.h) / height
    return 0.01 < side < 0.12 and 0.01 < end < 0.12 and line.w < 0.35 * width and line.h < 0.1 * height


def _ramp(value: float, zero: float, one: float) -> float:
    return float(np.clip((value - zero) / (one - zero), 0, 1))


def _in_clip(box: Box, scale: tuple[float, float], clip: ClipFacts) -> list[float]:
    x, y = (max(0.0, v * s) for v, s in zip(box[:2], scale, strict=True))
    right, bottom = min(clip.width, (box.x + box.w) * scale[0]), min(clip.height, (box.y + box.h) * scale[1])
    return [float(x), float(y), float(right - x), float(bottom - y)]
