"""Pictures as Qwen2-VL takes them: sizes, normalisation, and the order of patches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from reelwright.annotate.errors import AnnotatorError
from reelwright.curation.extras import install_command

if TYPE_CHECKING:
    import torch
    from torch import Tensor

PATCH = 14  # pixels of a patch's side
MERGE = 2  # patches of a token's side
SIDE = PATCH * MERGE  # pixels of a token's side
TIME = 2  # frames of a patch
MEAN = (0.48145466, 0.4578275, 0.40821073)  # CLIP's, of RGB from 0 to 1
STD = (0.26862954, 0.26130258, 0.27577711)
LUMA = (299, 587, 114)  # thousandths of R, G and B: ITU-R BT.601
MAX_ASPECT = 200


class PictureError(ValueError):
    """A picture or video cannot be shown to the model; that one is not scored."""


@dataclass(frozen=True)
class Patches:
    """A picture or a video in patches. values: float32 [t·h·w, 3·2·14·14]. grid: (t, h, w), in patches."""

    values: Tensor
    grid: tuple[int, int, int]

    @property
    def tokens(self) -> int:
        """Tokens that it becomes."""
        return math.prod(self.grid) // MERGE**2


def fitted(height: int, width: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """Return (height, width) as qwen-vl-utils fits a picture: whole tokens, about its aspect, pixels within bounds.

    Raises:
        PictureError: one side is more than 200 times the other.
    """
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise PictureError(f"{width} × {height} pixels: one side may be at most {MAX_ASPECT} times the other")
    rows, columns = (max(1, round(side / SIDE)) for side in (height, width))
    pixels = rows * columns * SIDE**2
    if pixels > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        rows, columns = (max(1, math.floor(side / shrink / SIDE)) for side in (height, width))
    elif pixels < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        rows, columns = (math.ceil(side * grow / SIDE) for side in (height, width))
    return rows * SIDE, columns * SIDE


def resized_picture(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a picture, uint8 [H, W, 3], to (height, width) by Pillow's bicubic, as the publishers do.

    Torch's bicubic differs: Pillow rounds and cuts to 0…255 between its two passes, and by up to 20 levels where
    neighbours differ much.

    Raises:
        AnnotatorError: Pillow is missing.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise AnnotatorError(f"pictures for Qwen2-VL need Pillow: {install_command('models')}") from error
    return np.asarray(Image.fromarray(picture).resize(size[::-1], Image.Resampling.BICUBIC))


def prepared(frames: np.ndarray, size: tuple[int, int], device: torch.device, *, grey: bool = False) -> Tensor:
    """Resize and normalise the frames of a video.

    Bicubic in float32 with antialiasing, rounded to whole levels, as torchvision does with tensors. Frames that have
    their size stay as they are.

    Args:
        frames: uint8 [F, H, W, 3], RGB.
        size: (height, width) of the result.
        device: to compute on.
        grey: replace the three channels by their luma.

    Returns:
        float32 [F, 3, height, width].
    """
    import torch
    from torch.nn.functional import interpolate

    pixels = torch.from_numpy(np.ascontiguousarray(frames)).to(device).permute(0, 3, 1, 2).float()
    if grey:
        luma = (pixels * torch.tensor(LUMA, device=device).view(1, 3, 1, 1)).sum(1, keepdim=True) / 1000
        pixels = luma.expand(-1, 3, -1, -1)
    if pixels.shape[2:] != size:
        pixels = interpolate(pixels, size, mode="bicubic", align_corners=False, antialias=True)
    levels = pixels.clamp(0, 255).round() / 255
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (levels - mean) / std


def video_patches(frames: Tensor) -> Patches:
    """Cut a video, float32 [F, 3, H, W] with an even F, into patches of 2 frames × 14 × 14 pixels.

    The four patches of a token follow one another: (t, row, column, row in token, column in token), and inside a patch
    (channel, t, row, column).
    """
    count, _, height, width = frames.shape
    t, h, w = count // TIME, height // PATCH, width // PATCH
    cut = frames.reshape(t, TIME, 3, h // MERGE, MERGE, PATCH, w // MERGE, MERGE, PATCH)
    return Patches(cut.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(t * h * w, -1), (t, h, w))


def picture_patches(frame: Tensor) -> Patches:
    """Cut a picture, float32 [3, H, W], into patches: a video of two equal frames."""
    return video_patches(frame.expand(TIME, -1, -1, -1))
