"""Motion quality of a video, by VideoAlign."""

from __future__ import annotations

from dataclasses import dataclass

from reelwright.training.rewards.qwen2_vl.videoalign import VideoAlignReward


@dataclass(frozen=True)
class VideoAlignMQ(VideoAlignReward):
    """VideoAlign's motion quality. The prompt cannot change it: it stands behind the token that is read.

    Args:
        grey: show the model greys, so that colour cannot earn what motion should (report 3.3). The report tuned a model
            of its own on greys; the published one has seen colour alone, so its scores of greys are off its training
            data, and they cost a forward of their own beside the other dimensions'.
    """

    grey: bool = False

    name, version = "videoalign_mq", 1
    dimension = "MQ"

    @property
    def grey_input(self) -> bool:
        """Whether the model is shown luma."""
        return self.grey
