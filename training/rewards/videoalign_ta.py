"""How well a video shows what its prompt says, by VideoAlign."""

from __future__ import annotations

from dataclasses import dataclass

from reelwright.training.rewards.qwen2_vl.videoalign import VideoAlignReward


@dataclass(frozen=True)
class VideoAlignTA(VideoAlignReward):
    """VideoAlign's text alignment."""

    name, version = "videoalign_ta", 1
    dimension = "TA"
