"""Visual quality of a video, by VideoAlign."""

from __future__ import annotations

from dataclasses import dataclass

from reelwright.training.rewards.qwen2_vl.videoalign import VideoAlignReward


@dataclass(frozen=True)
class VideoAlignVQ(VideoAlignReward):
    """VideoAlign's visual quality. The prompt cannot change it: it stands behind the token that is read."""

    name, version = "videoalign_vq", 1
    dimension = "VQ"
