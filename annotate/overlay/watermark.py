"""Static overlays: logos, channel bugs, semi-transparent marks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from reelwright.annotate.backends.text_detector import TextDetector
from reelwright.annotate.contract import Annotator, Column, Facts, Frames
from reelwright.annotate.overlay.evidence.boxes import Box, Evidence, grown, steady_cells, symbols, weigh, where_steady
from reelwright.annotate.overlay.evidence.persistence import measure
from reelwright.annotate.overlay.evidence.scene import follows, moved_along
from reelwright.annotate.overlay.evidence.scores import line_score, symbol_score
from reelwright.curation.media.frames import ClipFacts

LEAST_FRAMES = 6  # in fewer, next to nothing can be said to last
UPRIGHT = 0.6  # share of its upright box that a line fills; slanted lettering lies on things, far more often than not


@dataclass(frozen=True)
class Watermark(Annotator):
    """Finds structure that stays in its place while the picture behind it or all around it changes.

    Lines of lettering, by PP-OCR's detector, are looked for in the temporal median picture, in which the structure is
    that of the frames whose place had changed: a moving scene blurs away, a covered one fades, an overlay stays. Only
    the part around structure that stays is looked at. A line then has to be there in every frame, while the picture
    changes through it and it is not covered (a subject passes behind a translucent mark), or while the camera moves in
    a way that would have taken a thing of the scene from this very place: at the fixed point of a zoom it would not.
    Change of exposure is no change. Compact spots of steady structure count where the camera moves; a mark without
    letters over a still scene is not found.

    A still picture is no evidence. There, lettering in a corner, clear of the edges, scores 0.4 and no more, which is
    claimed; nothing else is. Slanted lines are left out. A line in the middle of the lowest 30 % that lets nothing
    through is a subtitle, lettering of more than 12 % of the height that does not either is a title: score 0. A name or
    a clock in a corner is a mark. Clips of fewer than 6 frames score 0.

    Args:
        claim_from: score from which a box is given.
        min_probability: of the text detector, for a line.
    """

    claim_from: float = 0.3
    min_probability: float = 0.6

    name, version = "watermark", 2
    profiles = ("cpu", "full")
    typical_s = 0.1
    needs = (Frames(count=16, height=360, color="gray"), Facts())
    columns = {
        "watermark_score": Column(pa.float32(), "how surely a static overlay lies over the picture", "0 to 1"),
        "watermark_box": Column(pa.list_(pa.float32()), "x, y, w, h of the overlay; null: none is claimed", "pixels"),
    }

    def __post_init__(self) -> None:
        for name in ("claim_from", "min_probability"):
            value = getattr(self, name)
            if not 0 < value <= 1:
                raise ValueError(f"annotator 'watermark': {name} = {value}: give a share above 0, at most 1")

    @property
    def models(self) -> tuple[str, ...]:
        """The text detector."""
        return (self._detector.model_id,)

    @cached_property
    def _detector(self) -> TextDetector:
        return TextDetector(self.min_probability)

    def __call__(self, frames: np.ndarray, clip: ClipFacts) -> dict[str, Any]:
        """frames: uint8 [T, H, W]."""
        score, box = self._best(frames) if len(frames) >= LEAST_FRAMES else (0.0, None)
        claimed = None if box is None or score < self.claim_from else _in_clip(box, frames.shape[1:], clip)
        return {"watermark_score": score, "watermark_box": claimed}

    def _best(self, frames: np.ndarray) -> tuple[float, Box | None]:
        """Return the score and the box of the most likely overlay, in pixels of the frames."""
        seen = measure(frames)
        steady = steady_cells(seen)
        lines = self._lines(seen.picture, steady)
        shape = frames.shape[1:]
        marks = [_Mark(line, weigh(seen, line), partial(line_score, line=line, shape=shape), True) for line in lines]
        marks += [_Mark(spot, weigh(seen, spot), symbol_score, False) for spot in symbols(seen, steady)]
        along = moved_along(frames) if any(mark.hangs_on_motion for mark in marks) else None
        scored = [(mark.score_with(along), mark) for mark in marks]
        if not scored:
            return 0.0, None
        score, best = max(scored, key=lambda s: s[0])
        return score, grown(seen, best.box, steady, best.evidence.crowd) if best.is_lettered else best.box

    def _lines(self, picture: np.ndarray, steady: np.ndarray) -> list[Box]:
        """Lines where something is steady; the detector is most of the annotator's cost."""
        within = where_steady(steady)
        if within is None:
            return []
        corners = self._detector.lines(cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB), within)
        boxes = [Box(*map(float, (*c.min(axis=0), *np.ptp(c, axis=0)))) for c in corners]
        return [b for b, c in zip(boxes, corners, strict=True) if cv2.contourArea(c) > UPRIGHT * b.w * b.h]


@dataclass(frozen=True)
class _Mark:
    """What may be an overlay: its place, the evidence without the camera's motion, and how that is scored."""

    box: Box
    evidence: Evidence
    score: Callable[[Evidence], float]
    is_lettered: bool

    @property
    def hangs_on_motion(self) -> bool:
        """Whether the camera's motion, which takes long to measure, can change the score: it falls with `follows`."""
        overlay, scene = (replace(self.evidence, follows=share) for share in (0.0, 1.0))
        return self.score(overlay) > self.score(scene)

    def score_with(self, along: tuple[np.ndarray, np.ndarray] | None) -> float:
        """Return the score. along: of `moved_along`; None: not known, or of no account."""
        if along is None:
            return self.score(self.evidence)
        return self.score(replace(self.evidence, follows=follows(along, *self.box)))


def _in_clip(box: Box, shape: tuple[int, ...], clip: ClipFacts) -> list[float]:
    """[x, y, w, h] in pixels of the clip, inside it."""
    height, width = shape
    x, right = np.clip([box.x, box.x + box.w], 0, width) * clip.width / width
    y, bottom = np.clip([box.y, box.y + box.h], 0, height) * clip.height / height
    return [float(x), float(y), float(right - x), float(bottom - y)]
