"""Embedders of latents, timesteps and text states to the network's width."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reelwright.model.blocks import fp32_linear, no_autocast

MAX_PERIOD = 10000.0


class PatchEmbed(nn.Module):
    """Latents [B, C, T, H, W] -> tokens [B, N, hidden] in (t, h, w) order."""

    def __init__(self, channels: int, dim: int, patch: tuple[int, int, int]) -> None:
        super().__init__()
        self.proj = nn.Conv3d(channels, dim, kernel_size=patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        """Embed patches; a convolution of non-overlapping patches is one matrix product."""
        _, rows, columns = self.proj.kernel_size
        b, c, t, h, w = x.shape
        x = x.reshape(b, c, t, h // rows, rows, w // columns, columns).permute(0, 2, 3, 5, 1, 4, 6)
        return nn.functional.linear(x.flatten(4).flatten(1, 3), self.proj.weight.flatten(1), self.proj.bias)


class TimestepEmbed(nn.Module):
    """Timesteps in 0..1000 -> [..., dim], in fp32, as the published code computes them."""

    def __init__(self, sinusoids: int, dim: int) -> None:
        super().__init__()
        self.sinusoids = sinusoids
        self.mlp = nn.Sequential(nn.Linear(sinusoids, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, t: Tensor) -> Tensor:
        """Embed timesteps: t [...] -> [..., E], fp32."""
        with no_autocast(t):
            return fp32_linear(self.mlp[2], F.silu(fp32_linear(self.mlp[0], sinusoids(t, self.sinusoids))))


class TextEmbed(nn.Module):
    """Text states [B, L, D] -> [B, L, hidden]."""

    def __init__(self, text_dim: int, dim: int) -> None:
        super().__init__()
        self.y_proj = nn.Sequential(nn.Linear(text_dim, dim), nn.GELU(approximate="tanh"), nn.Linear(dim, dim))

    def forward(self, text: Tensor) -> Tensor:
        """Project text states to the network's width: [..., text width] -> [..., C]."""
        return self.y_proj(text.to(self.y_proj[0].weight.dtype))


def sinusoids(t: Tensor, dim: int) -> Tensor:
    """Return cosines, then sines, of t [...] at dim/2 frequencies from 1 down to 1/10000: [..., dim] fp32."""
    half = dim // 2
    frequencies = torch.exp(torch.arange(half, device=t.device, dtype=torch.float32) * (-math.log(MAX_PERIOD) / half))
    angles = t.float()[..., None] * frequencies
    waves = torch.cat((angles.cos(), angles.sin()), dim=-1)
    return nn.functional.pad(waves, (0, dim % 2))
