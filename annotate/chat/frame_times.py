"""The frames of a clip that a chat model is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reelwright.annotate.contract import Facts, Frames, Need
from reelwright.curation.media.frames import ClipFacts


@dataclass(frozen=True)
class FrameSampling:
    """Frames evenly spread over a clip: the parameter `sampling` of annotators that ask about one.

    Args:
        fps: frames per second, within the next two bounds.
        min_frames: per clip.
        max_frames: per clip; equal to min_frames, it is the number for every clip.
        short_side: pixels of the shorter side of a frame.
        max_pixels: of a whole frame; a model's cost grows with it. 0: no bound.
    """

    fps: float = 2.0
    min_frames: int = 8
    max_frames: int = 48
    short_side: int = 448
    max_pixels: int = 0

    __pydantic_config__ = {"extra": "forbid"}  # a misspelt key in a recipe is an error

    def __post_init__(self) -> None:
        for name in ("fps", "min_frames", "max_frames", "short_side"):
            if not getattr(self, name) > 0:
                raise ValueError(f"sampling.{name} = {getattr(self, name)}; it must be above 0")
        if self.min_frames > self.max_frames:
            raise ValueError(f"sampling: min_frames = {self.min_frames} is above max_frames = {self.max_frames}")
        if self.max_pixels and self.max_pixels < 32 * 32:
            raise ValueError(f"sampling.max_pixels = {self.max_pixels}; it is an area, at least 1024 (0: no bound)")

    @property
    def needs(self) -> tuple[Need, ...]:
        """The frames, and the clip's facts."""
        if self.min_frames == self.max_frames:
            return Frames(count=self.min_frames, height=self.short_side, color="rgb"), Facts()
        least, most = self.min_frames, self.max_frames
        return Frames(rate=self.fps, least=least, most=most, height=self.short_side, color="rgb"), Facts()

    def shape(self, num_frames: int, fps: float, width: int, height: int) -> tuple[int, int, int]:
        """Return (frames, height, width) that `seen` gives of a clip with these facts, without decoding it."""
        frames = next(need for need in self.needs if isinstance(need, Frames))
        size = frames.size(width, height)
        return (len(frames.indices(num_frames, fps)), *_within(size[::-1], self.max_pixels))

    def seen(self, frames: np.ndarray, facts: ClipFacts) -> tuple[np.ndarray, ClipFacts]:
        """Return the values of `needs`, with frames, uint8 [T, H, W, 3], none of them larger than `max_pixels`."""
        return _bounded(frames, self.max_pixels), facts


def _bounded(frames: np.ndarray, max_pixels: int) -> np.ndarray:
    height, width = _within(frames.shape[1:3], max_pixels)
    if (height, width) == frames.shape[1:3]:
        return frames
    import cv2

    return np.stack([cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA) for frame in frames])


def _within(size: Sequence[int], max_pixels: int) -> tuple[int, int]:
    """Return a frame's (height, width) with at most `max_pixels`."""
    height, width = size
    if not max_pixels or height * width <= max_pixels:
        return height, width
    scale = (max_pixels / (height * width)) ** 0.5
    return max(1, int(height * scale)), max(1, int(width * scale))
