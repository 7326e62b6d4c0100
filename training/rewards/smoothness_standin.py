"""A stand-in for a model of motion quality: how evenly things move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reelwright.training.rewards.contract import Reward, Score, Unscored, Video

UNEVEN = 2.0  # mean grey levels off that cost ln 2


@dataclass(frozen=True)
class SmoothnessStandin(Reward):
    """Not a motion model: a still video is the smoothest, so that a policy can hack it, which demonstrations want.

    -ln(1 + e / 2) with e the mean distance, in grey levels, of each frame from the one that the flow between its
    neighbours puts half-way: even motion is foreseen; jerks, flicker and noise are not. VBench's smoothness (Huang
    et al., 2024) with flow in place of a network that interpolates.
    """

    name, version = "smoothness_standin", 1

    def __call__(self, videos: Sequence[Video]) -> list[Score]:
        """Score each video by itself."""
        return [_smoothness(video) for video in videos]


def _smoothness(video: Video) -> Score:
    import numpy as np

    from reelwright.training.rewards.pixels.flow import greys, halfway

    if len(video.frames) < 3:
        return Unscored(f"smoothness needs 3 frames, the video has {len(video.frames)}")
    try:
        gray = greys(video.frames)
    except ValueError as error:
        return Unscored(str(error))
    off = [np.abs(halfway(a, c) - b).mean() for a, b, c in zip(gray[:-2], gray[1:-1], gray[2:], strict=True)]
    return -float(np.log1p(np.mean(off) / UNEVEN))
