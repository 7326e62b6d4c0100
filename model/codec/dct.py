"""A codec without weights, a stand-in for Wan's VAE: 16 low-frequency DCT coefficients of every 4×8×8 block.

An orthonormal 3D DCT of luma and chroma (BT.601, full range) over blocks of 4 frames × 8 × 8 pixels, of which the
16 coefficients are kept whose loss would cost most RGB error on moving photographs; the first frame has blocks of its
own of 1 × 8 × 8, which keep fine spatial waves instead of those in time. `python -m benchmarks.dct_codec --measure`
prints the figures of the table below, and without the option the quality of the pictures.
"""

import hashlib
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from reelwright.model.codec.base import Codec
from reelwright.model.config import STRIDE

Y, CB, CR = 0, 1, 2
YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))  # BT.601

# (plane, wave in time, down, across, mean, deviation) of a block of 4 frames.
SHARED = (
    (Y, 0, 0, 0, -3.2, 7.4),
    (CB, 0, 0, 0, -0.9, 1.9),
    (CR, 0, 0, 0, 1.2, 2.1),
    (Y, 0, 0, 1, 0.0, 0.96),
    (Y, 0, 1, 0, 0.0, 1.0),
    (Y, 0, 1, 1, 0.0, 0.41),
    (Y, 0, 0, 2, 0.0, 0.43),
    (Y, 0, 2, 0, 0.0, 0.455),
    (Y, 0, 2, 1, 0.0, 0.256),
)
MOVING = (
    (Y, 1, 0, 0, 0.0, 1.09),
    (Y, 1, 0, 1, 0.0, 0.395),
    (Y, 1, 1, 0, 0.0, 0.39),
    (Y, 2, 0, 0, 0.0, 0.52),
    (Y, 2, 0, 1, 0.0, 0.275),
    (Y, 2, 1, 0, 0.0, 0.29),
    (Y, 3, 0, 0, 0.0, 0.32),
)
STILL = (  # of a block of one frame, in the same channels as MOVING
    (Y, 0, 1, 2, 0.0, 0.16),
    (Y, 0, 0, 3, 0.0, 0.155),
    (Y, 0, 3, 0, 0.0, 0.154),
    (CR, 0, 0, 1, 0.0, 0.125),
    (CR, 0, 1, 0, 0.0, 0.13),
    (CB, 0, 0, 1, 0.0, 0.113),
    (CB, 0, 1, 0, 0.0, 0.11),
)


class DCTCodec(Codec):
    """Three-dimensional DCT of luma and chroma in blocks of 4×8×8.

    It gives the same bits on the same machine; it is linear, so a still scene has the same shared channels in every
    latent frame.
    """

    name = "dct-standin"

    def __init__(self, device: str = "cpu") -> None:
        table = repr((YCC, SHARED, MOVING, STILL)).encode()
        self.fingerprint = f"dct-standin-{hashlib.sha256(table).hexdigest()[:12]}"
        half = tuple((*index, mean / 2, std / 2) for *index, mean, std in SHARED)  # a still wave has half the length
        self.device = torch.device(device)
        self.first = _Transform((*half, *STILL), 1, device)
        self.others = _Transform((*SHARED, *MOVING), STRIDE[0], device)

    def _encode(self, video: Tensor) -> Tensor:
        ycc = to_ycc(video.to(self.first.mean.device, torch.float32))
        parts = [self.first.encode(ycc[:, :, :1])]
        if ycc.shape[2] > 1:
            parts.append(self.others.encode(ycc[:, :, 1:]))
        return torch.cat(parts, 2)

    def _decode(self, latents: Tensor) -> Tensor:
        latents = latents.to(self.first.mean.device, torch.float32)
        parts = [self.first.decode(latents[:, :, :1])]
        if latents.shape[2] > 1:
            parts.append(self.others.decode(latents[:, :, 1:]))
        return from_ycc(torch.cat(parts, 2))


class _Transform:
    """Blocks of `frames` × 8 × 8 to 16 normalised coefficients and back: a strided convolution by fixed waves."""

    def __init__(self, table: tuple, frames: int, device: str) -> None:
        self.stride = (frames, *STRIDE[1:])
        waves = basis(frames).view(frames, 8, 8, frames, 8, 8)
        self.filters = torch.zeros(len(table), 3, *self.stride)
        for channel, (plane, t, y, x, *_) in enumerate(table):
            self.filters[channel, plane] = waves[t, y, x]
        self.filters = self.filters.to(device)
        mean, std = torch.tensor([row[4:] for row in table]).T
        self.mean, self.std = mean.view(-1, 1, 1, 1).to(device), std.view(-1, 1, 1, 1).to(device)

    def encode(self, ycc: Tensor) -> Tensor:
        return (F.conv3d(ycc, self.filters, stride=self.stride) - self.mean) / self.std

    def decode(self, latents: Tensor) -> Tensor:
        return F.conv_transpose3d(latents * self.std + self.mean, self.filters, stride=self.stride)


def to_ycc(video: Tensor) -> Tensor:
    """RGB [B, 3, F, H, W] in -1..1 to luma in -1..1 and chroma in -1..1."""
    return torch.einsum("yc,bcthw->bythw", torch.tensor(YCC, device=video.device), video)


def from_ycc(ycc: Tensor) -> Tensor:
    """Inverse of `to_ycc`."""
    inverse = torch.linalg.inv(torch.tensor(YCC, dtype=torch.float64)).float()
    return torch.einsum("cy,bythw->bcthw", inverse.to(ycc.device), ycc)


def basis(frames: int) -> Tensor:
    """Orthonormal DCT-II waves of a frames × 8 × 8 block: [frames·64 waves, frames·64 pixels]."""
    return torch.kron(_dct(frames), torch.kron(_dct(8), _dct(8)))


def _dct(n: int) -> Tensor:
    k = torch.arange(n, dtype=torch.float64)
    waves = torch.cos(math.pi / n * (k[None] + 0.5) * k[:, None]) * math.sqrt(2 / n)
    waves[0] /= math.sqrt(2)
    return waves.float()
