"""Keys and values of condition frames, computed once and used in every sampling step."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from reelwright.kernels import BlockGrid
from reelwright.kernels.blocks import Triple
from reelwright.model.attention import Layout


@dataclass(frozen=True)
class KVCache:
    """layers: keys (after their norm, before RoPE) and values of each block, [B, heads, N, D]. frames: latent.

    block: they are in the order of blocks of these sizes; in (t, h, w) order if none.
    """

    layers: list[tuple[Tensor, Tensor]]
    frames: int
    block: tuple[Triple, Triple] | None = None

    def to(self, device: torch.device | str) -> "KVCache":
        """Return the cache on another device."""
        return replace(self, layers=[(k.to(device), v.to(device)) for k, v in self.layers])

    def ordered(self, layout: Layout) -> "KVCache":
        """Return the cache in the order of a layout, of whose keys these are the first."""
        if self.block == layout.block:
            return self
        here, there = (_order(replace(layout, block=block), self.frames) for block in (self.block, layout.block))
        index = here.argsort()[there].to(self.layers[0][0].device)
        layers = [(k.index_select(2, index), v.index_select(2, index)) for k, v in self.layers]
        return replace(self, layers=layers, block=layout.block)

    def expand(self, copies: int) -> "KVCache":
        """Repeat the samples of the cache `copies` times (conditional and unconditional together)."""
        return replace(self, layers=[(k.repeat(copies, 1, 1, 1), v.repeat(copies, 1, 1, 1)) for k, v in self.layers])


def _order(layout: Layout, frames: int) -> Tensor:
    """int64 [N]: places in (t, h, w) order of the tokens of the first frames, in the layout's order."""
    if layout.block is None:
        return torch.arange(frames * layout.frame_tokens)
    return BlockGrid((frames, layout.rows, layout.columns), layout.block[1], 0, layout.block[0]).order()
