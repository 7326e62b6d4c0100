"""Cuts in a video that should be one shot, found by the detector that splits footage."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from reelwright.annotate.contract import Annotator, Column, Facts
from reelwright.curation.media.frames import ClipFacts
from reelwright.curation.shots import ANALYSIS_WIDTH, ShotConfig, make_detector
from reelwright.evaluation.measures.every_frame import every_frame


class Cuts(Annotator):
    """Transitions of the shot detector, and how loud they are: its confidence in the plainest one."""

    name, version = "cuts", 1
    needs = (every_frame(ANALYSIS_WIDTH, "rgb"), Facts())
    columns = {
        "cuts": Column(pa.int32(), "hard cuts in the video"),
        "transitions": Column(pa.int32(), "hard cuts, dissolves, fades and wipes in the video"),
        "cut_loudest": Column(pa.float32(), "confidence in the plainest transition, 0 to 1; 0: there is none"),
    }

    @cached_property
    def models(self) -> tuple[str, ...]:
        """The detector."""
        return (make_detector(ShotConfig(), 24.0).fingerprint,)

    def __call__(self, frames: np.ndarray, clip: ClipFacts) -> dict[str, Any]:
        """frames: uint8 [T, H, W, 3]."""
        detector = make_detector(ShotConfig(), clip.fps)
        found = [*detector.push(frames), *detector.flush()]
        return {
            "cuts": sum(one.is_cut for one in found),
            "transitions": len(found),
            "cut_loudest": max((float(one.confidence) for one in found), default=0.0),
        }
