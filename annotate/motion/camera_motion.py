"""The camera's motion in a clip: it stands, pans, tilts, zooms, rolls, shakes, or some of it together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from reelwright.annotate.contract import Annotator, Column, Facts, Unmeasurable
from reelwright.annotate.motion.camera.classifier import LABELS, load_classifier, weights_hash
from reelwright.annotate.motion.camera.features import camera_path
from reelwright.annotate.motion.camera.motion import CELL, measure
from reelwright.annotate.motion.camera.sampling import SAMPLING
from reelwright.curation.media.frames import ClipFacts


class CameraMotion(Annotator):
    """The motion that the picture's border and most of the rest agree on, from frame to frame.

    A classifier that was trained on a virtual camera names its path over the clip (docs/camera_motion.md). All columns
    are null where most of the time nothing can be measured: a clip of one frame, or without detail (black, blank sky).
    """

    name, version = "camera_motion", 2
    profiles = ("cpu", "full")
    typical_s = 0.1
    needs = (SAMPLING, Facts())
    columns = {
        "camera_motion": Column(pa.string(), f"one of {', '.join(LABELS)}; other is a mixture"),
        "camera_motion_confidence": Column(pa.float32(), "probability of the label", "0..1"),
        "camera_pan": Column(pa.float32(), "mean turn of the camera, right is positive", "frame widths per second"),
        "camera_tilt": Column(pa.float32(), "mean turn of the camera, up is positive", "frame heights per second"),
        "camera_zoom": Column(pa.float32(), "mean growth of the content, in is positive", "log scale per second"),
        "camera_roll": Column(pa.float32(), "mean turn of the camera, clockwise is positive", "degrees per second"),
        "camera_shake": Column(pa.float32(), "rms of the shift less its smooth part", "shorter sides of the frame"),
    }

    @property
    def models(self) -> tuple[str, ...]:
        """The classifier's weights."""
        return (f"camera/weights.json:{weights_hash()}",)

    def __call__(self, frames: np.ndarray, clip: ClipFacts) -> dict[str, Any]:
        """frames: uint8 [T, H, W]."""
        height, width = frames.shape[1:]
        if min(height, width) < CELL:
            raise Unmeasurable(f"tracking needs {CELL} pixels across, a frame of {width}x{height} has too few")
        times_s = np.array(SAMPLING.indices(clip.num_frames, clip.fps)) / clip.fps
        steps = measure(frames, times_s)
        camera = camera_path(steps, times_s, (height, width))
        if camera is None:
            return dict.fromkeys(self.columns)
        label, confidence = load_classifier().name(camera, steps)
        right, down, out, clockwise = camera.net / camera.duration_s
        return {
            "camera_motion": label,
            "camera_motion_confidence": confidence,
            "camera_pan": -right * min(height, width) / width,
            "camera_tilt": down * min(height, width) / height,
            "camera_zoom": out / camera.reach,
            "camera_roll": -float(np.degrees(clockwise / camera.reach)),
            "camera_shake": float(np.hypot(*camera.tremble[:, :2].std(axis=0))),
        }
