"""A codec: 4 frames × 8 × 8 pixels become one latent position of 16 channels; the first frame stands alone."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from reelwright.model.config import STRIDE
from reelwright.model.errors import ModelError

CHANNELS = 16


class Codec(ABC):
    """Latents are normalised: about zero mean and unit variance per channel.

    F = 4k + 1 frames make T = k + 1 latent frames, as in Wan 2.1's causal VAE: the first latent frame codes one frame.
    """

    name: str
    fingerprint: str  # of everything that decides the latents
    device: torch.device  # that it computes on
    channels: int = CHANNELS
    stride: tuple[int, int, int] = STRIDE

    @torch.no_grad()
    def encode(self, video: Tensor) -> Tensor:
        """video: [B, 3, F, H, W] in -1..1 -> float32 [B, 16, T, H/8, W/8], on the device that it computes on.

        Raises ModelError for a size that does not divide.
        """
        self._check_video(video)
        with torch.autocast(video.device.type, enabled=False):  # its precision is the codec's own
            return self._encode(video)

    @torch.no_grad()
    def sample(self, video: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Draw latents from the codec's posterior, as the published sampler does; `encode` returns its mode.

        A codec without a posterior returns what `encode` does.

        Args:
            video: [B, 3, F, H, W] in -1..1.
            generators: on the CPU, one per sample.
        """
        self._check_video(video)
        with torch.autocast(video.device.type, enabled=False):
            return self._sample(video, generators)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """latents: [B, 16, T, h, w] -> float32 video [B, 3, 4(T-1) + 1, 8h, 8w], clamped to -1..1."""
        if latents.ndim != 5 or latents.shape[1] != self.channels:
            raise ModelError(f"latents must be [B, {self.channels}, T, h, w], got {list(latents.shape)}")
        with torch.autocast(latents.device.type, enabled=False):
            return self._decode(latents).clamp_(-1, 1)

    @contextmanager
    def tiled(self, tile: int) -> Iterator[None]:
        """Set the side in pixels of the spatial tiles to work on; 0: whole frames. A codec without tiles ignores it."""
        yield

    @abstractmethod
    def _encode(self, video: Tensor) -> Tensor: ...

    def _sample(self, video: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        return self._encode(video)

    @abstractmethod
    def _decode(self, latents: Tensor) -> Tensor: ...

    def _check_video(self, video: Tensor) -> None:
        if video.ndim != 5 or video.shape[1] != 3 or not video.is_floating_point():
            raise ModelError(f"a video must be float [B, 3, F, H, W], got {video.dtype} {list(video.shape)}")
        latent_size(*video.shape[2:])


def latent_size(frames: int, height: int, width: int) -> tuple[int, int, int]:
    """(latent frames, rows, columns) of a video of this size in pixels. Raises ModelError when it does not divide."""
    if frames < 1 or frames % STRIDE[0] != 1:
        near = max(1, frames - (frames - 1) % STRIDE[0])
        raise ModelError(f"{frames} frames cannot be encoded: the count must be 4k + 1, such as {near} or {near + 4}")
    if height % STRIDE[1] or width % STRIDE[2] or not height or not width:
        raise ModelError(f"{width}x{height} pixels cannot be encoded: both must be multiples of {STRIDE[1]}")
    return (frames - 1) // STRIDE[0] + 1, height // STRIDE[1], width // STRIDE[2]


def pixel_frames(latent_frames: int) -> int:
    """Return the number of frames that a number of latent frames decodes to."""
    return STRIDE[0] * (latent_frames - 1) + 1
