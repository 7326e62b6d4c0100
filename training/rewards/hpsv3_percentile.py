"""How much people would like a video's best frames, as pictures of its prompt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reelwright.training.rewards.contract import Video
from reelwright.training.rewards.qwen2_vl.hpsv3 import HPSv3Reward


@dataclass(frozen=True)
class HPSv3Percentile(HPSv3Reward):
    """HPSv3 of each frame for the video's prompt, the mean of the best ones (report 3.3).

    The rest is left out because motion blurs frames that are fine in a video.

    Args:
        share: of the judged frames that count, rounded down, and at least one.
    """

    share: float = 0.3

    name, version = "hpsv3_percentile", 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.share <= 1:
            raise ValueError(f"share = {self.share}; it must be above 0 and at most 1")

    def prompt_of(self, video: Video) -> str:
        """Return the video's own prompt."""
        return video.prompt

    def pooled(self, scores: np.ndarray) -> float:
        """Return the mean of the best."""
        return float(np.sort(scores)[-max(1, int(self.share * len(scores))) :].mean())
