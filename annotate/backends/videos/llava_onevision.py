"""LLaVA-OneVision, whose class holds LLaVA-Video's weights too: frames of one size, pooled, and one newline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from reelwright.annotate.backends.videos.form import ShownVideo, VideoForm
from reelwright.annotate.errors import AnnotatorError

if TYPE_CHECKING:
    from torch import Tensor

HALF = (0.5, 0.5, 0.5)  # SigLIP's mean and deviation


class LlavaOnevisionForm(VideoForm):
    """Every frame is scaled to the tower's square, as transformers' video processor does; times are in words alone.

    A forward pass takes one video: the class stacks videos, which have to have equally many frames.
    """

    token = "<video>"  # noqa: S105 - of a vocabulary
    most = 1

    def __init__(self, config: Any, images: Any) -> None:
        """Take the tower's size, and mean and deviation of the model's own image processor.

        Raises:
            AnnotatorError: the tower's class token is left out, which makes another number of tokens.
        """
        vision = config.vision_config
        if config.vision_feature_select_strategy != "full":
            strategy = config.vision_feature_select_strategy
            raise AnnotatorError(f"the model selects {strategy!r} vision features; only 'full' is known")
        self.side = int(vision.image_size)
        self.per_frame = math.ceil(vision.image_size // vision.patch_size / 2) ** 2
        self.mean = tuple(getattr(images, "image_mean", None) or HALF)
        self.std = tuple(getattr(images, "image_std", None) or HALF)

    def tokens(self, count: int, height: int, width: int) -> int:
        """Return the pooled tokens of all frames, and the newline."""
        return count * self.per_frame + 1

    def shown(self, frames: np.ndarray, seconds_per_frame: float) -> ShownVideo:
        """Return pixels, [1, T, 3, side, side]; see `VideoForm.shown`."""
        import torch
        from torch.nn.functional import interpolate

        pixels = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float()
        if pixels.shape[2:] != (self.side, self.side):
            pixels = interpolate(pixels, (self.side, self.side), mode="bicubic", align_corners=False, antialias=True)
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (self.mean, self.std))
        values = (pixels.clamp(0, 255).round() / 255 - mean) / std
        return ShownVideo(self.tokens(len(frames), *frames.shape[1:3]), values[None])

    def inputs(self, ids: Tensor, videos: Sequence[ShownVideo]) -> dict[str, Any]:
        """Return the pixels of one video."""
        (video,) = videos
        return {"pixel_values_videos": video.values}
