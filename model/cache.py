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

    block: they are in the order of blocks of these sizes; in (t, h, w) order if none. copies: how often each sample is
    repeated for the blocks. The layers may lie in the host's memory: a block's are fetched when it is computed.
    """

    layers: list[tuple[Tensor, Tensor]]
    frames: int
    block: tuple[Triple, Triple] | None = None
    copies: int = 1

    @property
    def batch(self) -> int:
        """Number of samples that the blocks see."""
        return self.layers[0][0].shape[0] * self.copies

    def layer(self, i: int, device: torch.device | str) -> tuple[Tensor, Tensor]:
        """Return a block's keys and values on a device, each [B · copies, heads, N, D]."""
        k, v = (part.to(device, non_blocking=True) for part in self.layers[i])
        return (k, v) if self.copies == 1 else (k.repeat(self.copies, 1, 1, 1), v.repeat(self.copies, 1, 1, 1))

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
        """Repeat the samples `copies` times for the blocks (conditional and unconditional together)."""
        return replace(self, copies=self.copies * copies)


def to_host(pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Copy a block's keys and values to the host; from a GPU to pinned memory, which it fetches without waiting."""
    k, v = (part.cpu() for part in pair)
    return (k.pin_memory(), v.pin_memory()) if pair[0].is_cuda else (k, v)


def _order(layout: Layout, frames: int) -> Tensor:
    """int64 [N]: places in (t, h, w) order of the tokens of the first frames, in the layout's order."""
    if layout.block is None:
        return torch.arange(frames * layout.frame_tokens)
    return BlockGrid((frames, layout.rows, layout.columns), layout.block[1], 0, layout.block[0]).order()
