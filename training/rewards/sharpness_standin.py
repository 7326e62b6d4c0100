"""A stand-in for a model of picture quality: how sharp a video's frames are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reelwright.training.rewards.contract import Reward, Score, Video


@dataclass(frozen=True)
class SharpnessStandin(Reward):
    """Not a quality model: it calls noise sharp, so that a policy can hack it, which demonstrations want.

    Mean over frames of ln(1 + variance of the Laplacian of the greys) (Pech-Pacheco et al., 2000).

    Args:
        height: pixels of the shorter side that larger frames are scaled to.
    """

    height: int = 360

    name, version = "sharpness_standin", 1

    def __post_init__(self) -> None:
        if self.height < 3:
            raise ValueError(f"height {self.height} must be at least 3 pixels")

    def __call__(self, videos: Sequence[Video]) -> list[Score]:
        """Score each video by itself."""
        from reelwright.training.rewards.pixels.frames import scaled, sharpness

        return [float(sharpness(scaled(video.frames, self.height)).mean()) for video in videos]
