"""Meters of hacking: what rewards are often fooled by, measured on a run's videos and compared with its start.

A policy that is rewarded for one trait of a picture finds the cheapest way to more of it: loud colours, more light, a
still camera, noise that counts as detail. These four numbers say which way it goes; no reward should move them far.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from reelwright.training.distributed.world import World

if TYPE_CHECKING:
    from reelwright.training.rewards.contract import Video

NAMES = ("saturation", "brightness", "motion", "sharpness")
FRAMES = 8
"""Of a video, at most, spread evenly; motion is between each and the one after it."""
START_STEPS = 5
"""The first steps, whose mean is the start."""


def picture_meters(video: Video) -> np.ndarray:
    """Measure the frames of a video that were made; float64 [4], in the order of `NAMES`.

    saturation: of HSV, 0..1. brightness: luma, 0..1. motion: mean change of luma from a frame to the next, 0..1; nan
    for one frame. sharpness: variance of luma's Laplacian, luma 0..255.
    """
    import cv2

    frames = video.frames[video.given :]
    shown = np.linspace(0, max(0, len(frames) - 2), FRAMES if len(frames) else 0)
    at = sorted(set(shown.round().astype(int).tolist()))
    grey = {
        i: cv2.cvtColor(frames[i], cv2.COLOR_RGB2GRAY) for first in at for i in (first, first + 1) if i < len(frames)
    }
    if not grey:
        return np.full(len(NAMES), math.nan)
    highest = [frames[i].max(-1).astype(np.float64) for i in at]
    lowest = [frames[i].min(-1) for i in at]
    saturation = [((h - low) / np.maximum(h, 1)).mean() for h, low in zip(highest, lowest, strict=True)]
    motion = [cv2.absdiff(grey[i], grey[i + 1]).mean() / 255 for i in at if i + 1 in grey]
    sharpness = [cv2.Laplacian(grey[i], cv2.CV_64F).var() for i in at]
    brightness = [grey[i].mean() / 255 for i in at]
    return np.array([np.mean(saturation), np.mean(brightness), np.mean(motion or [math.nan]), np.mean(sharpness)])


def measured(videos: Sequence[Video | None]) -> Tensor:
    """Return sums and counts of the meters of videos, float64 [2, 4]."""
    rows = np.array([picture_meters(video) for video in videos if video is not None]).reshape(-1, len(NAMES))
    known = np.isfinite(rows)
    return torch.from_numpy(np.stack([np.where(known, rows, 0).sum(0), known.sum(0).astype(np.float64)]))


class AgainstStart:
    """Meters of each step against the run's first steps.

    start: float64 [START_STEPS, 2, 4], sums and counts of the first steps; a checkpoint holds it.
    """

    def __init__(self) -> None:
        self.start = torch.zeros(START_STEPS, 2, len(NAMES), dtype=torch.float64)

    def figures(self, step: int, sums: Tensor, world: World) -> dict[str, float]:
        """Return the meters of a step of all ranks. Every rank calls it.

        Args:
            step: that is rolled out, from 0.
            sums: of this rank's videos, from `measured`.
            world: this rank and the others.

        Returns:
            `meter/NAME`, and `meter/NAME_change`: by which part of the start's value it is larger.
        """
        every = torch.tensor(world.sum(sums.flatten().tolist()), dtype=torch.float64).view_as(sums)
        if step < START_STEPS:
            self.start[step] = every
        first, now = _mean(self.start.sum(0)), _mean(every)
        out = {}
        for name, value, before in zip(NAMES, now, first, strict=True):
            if math.isfinite(value):
                out[f"meter/{name}"] = value
            if math.isfinite(value) and math.isfinite(before) and before:
                out[f"meter/{name}_change"] = value / before - 1
        return out


def _mean(sums: Tensor) -> list[float]:
    return (sums[0] / sums[1]).tolist()  # 0 / 0 is nan: of no video
