"""Colours that wander off in the course of a video, as in long ones made segment by segment."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from reelwright.annotate.contract import Annotator, Column, Facts, Frames, Unmeasurable
from reelwright.curation.media.frames import ClipFacts

PARTS = 8  # the first and the last eighth are compared


class ColourDrift(Annotator):
    """Distance in CIELAB (CIE76) between the mean colours of a video's first and last eighth.

    A camera that moves on changes the mean colour as well: compare models on the same prompts, not videos.
    """

    name, version = "colour_drift", 1
    needs = (Frames(count=64, height=72, color="rgb"), Facts())
    columns = {
        "colour_drift": Column(pa.float32(), "distance of mean colours of the first and last eighth", "CIELAB"),
        "colour_drift_rate": Column(pa.float32(), "that distance per second between their middles", "CIELAB/s"),
        "brightness_drift": Column(pa.float32(), "change of mean lightness; below 0: it darkens", "CIELAB"),
        "saturation_drift": Column(pa.float32(), "change of mean chroma; above 0: colours grow garish", "CIELAB"),
    }

    def __call__(self, frames: np.ndarray, clip: ClipFacts) -> dict[str, Any]:
        """frames: uint8 [T, H, W, 3]."""
        if len(frames) < 2:
            raise Unmeasurable("colour drift needs two frames, and the video has one")
        lab = [cv2.cvtColor(f.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) for f in frames]
        means = np.array([frame.mean((0, 1)) for frame in lab])
        chroma = np.array([np.hypot(frame[..., 1], frame[..., 2]).mean() for frame in lab])
        part = max(1, len(frames) // PARTS)
        change = means[-part:].mean(0) - means[:part].mean(0)
        distance = float(np.linalg.norm(change))
        seconds = clip.num_frames / clip.fps * (1 - part / len(frames))
        return {
            "colour_drift": distance,
            "colour_drift_rate": distance / seconds,
            "brightness_drift": float(change[0]),
            "saturation_drift": float(chroma[-part:].mean() - chroma[:part].mean()),
        }
