"""Motion, split into the camera's and that of things before it."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from reelwright.annotate.contract import Annotator, Column, Facts, Frames, Unmeasurable
from reelwright.annotate.motion.camera.affine import affine_part
from reelwright.annotate.motion.camera.noise import noise_level
from reelwright.curation.media.frames import ClipFacts

STRIDE = 8  # pixels between the flow vectors that are looked at; CELL pixels around each are judged together
CELL = (9, 9)
CHANGED = 1.0  # mean grey levels by which a cell must differ between frames; compression stays below
NOISE = 1.6  # the same in standard deviations of the noise: two noisy frames of one picture differ by 1.13
TEXTURED = 6.0  # mean local range of grey levels from which a cell that did not change did not move
LEAST_SIDE = 16  # pixels of a frame that flow is measured on: the coarsest step of DIS halves them twice and fits 8
STILL = 0.01  # frame heights per second below which a pair of frames is still
_UNIT = "frame heights per second"


class Motion(Annotator):
    """Dense optical flow (DIS: Kroeger et al., 2016) between consecutive frames spread over the clip.

    Flow counts where the picture changed: on flat walls, coding noise makes it crawl. The camera's part is an affine
    motion fitted robustly to places that changed or have texture; the rest is local. A ribbon, some 36 times as long as
    wide or more, has too few pixels across.
    """

    name, version = "motion", 2
    profiles = ("cpu", "full")
    typical_s = 0.03
    needs = (Frames(count=12, height=144, color="gray", pairs=True), Facts())
    columns = {
        "motion_score": Column(pa.float32(), "mean length of the flow", _UNIT),
        "motion_std": Column(pa.float32(), "standard deviation of the mean flow over time", _UNIT),
        "motion_global": Column(pa.float32(), "mean length of the camera's part of the flow", _UNIT),
        "motion_local": Column(pa.float32(), "mean length of what the camera's part leaves", _UNIT),
        "still_share": Column(pa.float32(), f"pairs of frames that move less than {STILL} heights a second", "share"),
    }

    def __call__(self, pairs: np.ndarray, clip: ClipFacts) -> dict[str, Any]:
        """pairs: uint8 [T, 2, H, W]."""
        height, width = pairs.shape[2:]
        if min(height, width) < LEAST_SIDE:
            raise Unmeasurable(f"flow needs {LEAST_SIDE} pixels across, a frame of {width}x{height} has too few")
        measured = [self._flow(a, b) for a, b in pairs]
        camera = [affine_part(flow, seen) for flow, seen in measured]
        lengths = (
            np.array(
                [
                    [_mean_length(flow), _mean_length(part), _mean_length((flow - part)[seen])]
                    for (flow, seen), part in zip(measured, camera, strict=True)
                ]
            )
            * clip.fps
            / min(pairs.shape[2:])
        )  # [T, 3]
        score, in_camera, local = lengths.mean(axis=0)
        return {
            "motion_score": float(score),
            "motion_std": float(lengths[:, 0].std()),
            "motion_global": float(in_camera),
            "motion_local": float(local),
            "still_share": float((lengths[:, 0] < STILL).mean()),
        }

    @cached_property
    def _dis(self) -> Any:
        return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)

    def _flow(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Flow from a to b in pixels [H/8, W/8, 2], and where it can be seen at all: bool [H/8, W/8]."""
        grid = (slice(STRIDE // 2, None, STRIDE),) * 2
        changed = cv2.boxFilter(cv2.absdiff(a, b), cv2.CV_32F, CELL)[grid] > max(CHANGED, NOISE * noise_level(a))
        local_range = cv2.morphologyEx(a, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
        textured = cv2.boxFilter(local_range, cv2.CV_32F, CELL)[grid] > TEXTURED
        return self._dis.calc(a, b, None)[grid] * changed[..., None], changed | textured


def _mean_length(flow: np.ndarray) -> float:
    return float(np.linalg.norm(flow, axis=-1).mean()) if flow.size else 0.0
