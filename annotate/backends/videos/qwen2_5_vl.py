"""Qwen2.5-VL: patches of two frames, and positions in time by the seconds between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from reelwright.annotate.backends.videos.form import ShownVideo, VideoForm
from reelwright.annotate.backends.videos.patches import MERGE, PATCH, SIDE, TIME, fitted, prepared, video_patches
from reelwright.annotate.errors import AnnotatorError

if TYPE_CHECKING:
    from torch import Tensor

MOST_PIXELS = 768 * SIDE**2  # of a frame: qwen-vl-utils' bound for videos
LEAST_PIXELS = 4 * SIDE**2
TEXT, VIDEO = 0, 2  # kinds of tokens, as transformers numbers them


class Qwen25VLForm(VideoForm):
    """Frames keep their aspect, in whole tokens of 28 pixels; an odd number is made even by repeating the last.

    `second_per_grid_ts` is the time of two frames that were sampled, and not of the file's: position ids in time are
    int(t · seconds · tokens_per_second), which the model computes from it (`get_rope_index`).
    """

    token = "<|video_pad|>"  # noqa: S105 - of a vocabulary

    def __init__(self, config: Any, images: Any) -> None:
        """Take the class's sizes and the bounds of the model's own image processor.

        Args:
            config: of the model.
            images: its image processor, whose bounds of pixels hold for frames too.

        Raises:
            AnnotatorError: the model cuts pictures in another way.
        """
        vision = config.vision_config
        own = (vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size)
        if own != (PATCH, MERGE, TIME):
            raise AnnotatorError(f"the model's patches are {own}; only Qwen2.5-VL's {(PATCH, MERGE, TIME)} are known")
        self.video_token_id = config.video_token_id
        size = getattr(images, "size", None) or {}
        least = getattr(images, "min_pixels", None) or size.get("shortest_edge") or LEAST_PIXELS
        most = getattr(images, "max_pixels", None) or size.get("longest_edge") or MOST_PIXELS
        self.bounds = int(least), min(int(most), MOST_PIXELS)

    def tokens(self, count: int, height: int, width: int) -> int:
        """Return frame pairs times tokens of a frame."""
        rows, columns = fitted(height, width, *self.bounds)
        return -(-count // TIME) * (rows // SIDE) * (columns // SIDE)

    def shown(self, frames: np.ndarray, seconds_per_frame: float) -> ShownVideo:
        """Return patches; see `VideoForm.shown`."""
        import torch

        size = fitted(frames.shape[1], frames.shape[2], *self.bounds)
        even = np.concatenate([frames, frames[-1:]]) if len(frames) % TIME else frames
        patches = video_patches(prepared(even, size, torch.device("cpu")))
        return ShownVideo(patches.tokens, patches.values, patches.grid, TIME * (seconds_per_frame or 1.0))

    def inputs(self, ids: Tensor, videos: Sequence[ShownVideo]) -> dict[str, Any]:
        """Return pixels, grids, seconds and kinds of tokens."""
        import torch

        return {
            "pixel_values_videos": torch.cat([one.values for one in videos]),
            "video_grid_thw": torch.tensor([one.grid for one in videos]),
            "second_per_grid_ts": [one.seconds_per_grid for one in videos],  # no tensor: bf16 would round it
            "mm_token_type_ids": torch.where(ids == self.video_token_id, VIDEO, TEXT).to(torch.int32),
        }
