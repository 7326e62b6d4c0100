"""Copies of the first and the last frame that fill a video up to whole blocks of latent frames, and the cut after it.

The published kernel needs latent frames of the condition and of the rest in multiples of 4. Ours takes any number: with
`multiple` 1 a video is filled up only to the 4k + 1 frames of the codec, and no copy is attended to for nothing.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from reelwright.model.codec import pixel_frames
from reelwright.model.config import STRIDE, Timing
from reelwright.model.errors import ModelError

PUBLISHED_MULTIPLE = 4


@dataclass(frozen=True)
class Padding:
    """How a video at the output's frame rate is filled up.

    frames: of the video, `condition` of them given. front: copies of the first frame before it. back: copies of the
    last one after it. cond_latents, noise_latents: latent frames of the two parts.
    """

    frames: int
    condition: int
    front: int
    back: int
    cond_latents: int
    noise_latents: int

    @property
    def latents(self) -> int:
        """Latent frames in all."""
        return self.cond_latents + self.noise_latents

    @property
    def encoded(self) -> int:
        """Frames that the codec sees. Without a condition they are 3 fewer than there are with the copies."""
        return pixel_frames(self.latents)

    def pad(self, video: Tensor) -> Tensor:
        """Fill up a video [B, C, frames, H, W]: [B, C, encoded, H, W]."""
        self._check(video, self.frames, "video")
        parts = [video[:, :, :1].expand(-1, -1, self.front, -1, -1), video]
        parts.append(video[:, :, -1:].expand(-1, -1, self.back, -1, -1))
        return torch.cat(parts, 2)[:, :, : self.encoded]

    def pad_condition(self, video: Tensor) -> Tensor:
        """Fill up the condition's frames alone [B, C, condition, H, W], for a codec that encodes them apart."""
        self._check(video, self.condition, "condition")
        return torch.cat([video[:, :, :1].expand(-1, -1, self.front, -1, -1), video], 2)

    def cut(self, video: Tensor) -> Tensor:
        """Return the frames [B, C, frames, H, W] of a decoded video [B, C, encoded, H, W]."""
        self._check(video, self.encoded, "decoded video")
        return video[:, :, self.front : self.front + self.frames]

    def _check(self, video: Tensor, frames: int, name: str) -> None:
        if video.shape[2] != frames:
            raise ModelError(f"the {name} has {video.shape[2]} frames where this padding takes {frames}")


def padding(frames: int, condition: int = 0, *, multiple: int = PUBLISHED_MULTIPLE) -> Padding:
    """Return the padding of a video.

    Where the published rule gives a text-to-video clip too few latent frames for its last frames (95 · 2 = 190 frames
    are 48 latent frames there, which decode to 189), it gets a further block.

    Args:
        frames: of the video at the output's rate, the condition's included.
        condition: frames of it that are given (`output_condition`).
        multiple: of latent frames, in the condition and in the rest.

    Raises:
        ModelError: the condition leaves no frame to make.
    """
    if not 0 <= condition < frames:
        raise ModelError(f"{condition} condition frames of {frames}: at least one frame must be left to refine")
    if not condition:
        latents = _round_up(-(-frames // STRIDE[0]), multiple)
        while pixel_frames(latents) < frames:
            latents += multiple
        return Padding(frames, 0, 0, STRIDE[0] * latents - frames, 0, latents)
    cond_latents = _round_up(1 + -(-(condition - 1) // STRIDE[0]), multiple)
    noise = frames - condition
    noise_latents = _round_up(-(-noise // STRIDE[0]), multiple)
    front, back = pixel_frames(cond_latents) - condition, STRIDE[0] * noise_latents - noise
    return Padding(frames, condition, front, back, cond_latents, noise_latents)


def output_frames(frames: int, *, spatial_only: bool = False) -> int:
    """Return the number of frames that a number of first-stage frames becomes."""
    return frames if spatial_only else 2 * frames


def output_condition(frames: int, *, spatial_only: bool = False, timing: Timing = "published") -> int:
    """Return the condition's frames at the output's rate: a picture is one frame at any rate, 13 frames become 26.

    With exact times they become 25: the 26th would be shown after the last of the 13, where nothing is given.
    """
    if spatial_only or frames <= 1:
        return frames
    return 2 * frames - (timing == "exact")


def _round_up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple
