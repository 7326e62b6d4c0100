"""How much people would like a video's frames, whatever they show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reelwright.training.rewards.contract import Video
from reelwright.training.rewards.qwen2_vl.hpsv3 import HPSv3Reward

PROMPT = "A high-quality image"


@dataclass(frozen=True)
class HPSv3General(HPSv3Reward):
    """HPSv3 of each frame for the prompt "A high-quality image", the mean over frames (report 3.3)."""

    name, version = "hpsv3_general", 1

    def prompt_of(self, video: Video) -> str:
        """Return the same prompt for every video."""
        return PROMPT

    def pooled(self, scores: np.ndarray) -> float:
        """Return the mean."""
        return float(scores.mean())
