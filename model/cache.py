"""Keys and values of condition frames, computed once and used in every sampling step."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class KVCache:
    """layers: keys (after their norm, before RoPE) and values of each block, [B, heads, N, D]. frames: latent."""

    layers: list[tuple[Tensor, Tensor]]
    frames: int

    def to(self, device: torch.device | str) -> "KVCache":
        """The same on another device."""
        return replace(self, layers=[(k.to(device), v.to(device)) for k, v in self.layers])

    def expand(self, copies: int) -> "KVCache":
        """The same for a batch that repeats its samples `copies` times (conditional and unconditional together)."""
        return replace(self, layers=[(k.repeat(copies, 1, 1, 1), v.repeat(copies, 1, 1, 1)) for k, v in self.layers])
