"""Lists of the key blocks that each query block attends to; and the same seen from the keys, for the backward pass.

A mask of 3 query blocks and 4 key blocks, its lists, and their transpose:

    mask          indices       counts        queries = [0, 1, 2, 0, 1, 0, ...]
    1 0 1 1        0  2  3        3           starts  = [0, 2, 3, 5, 6]
    1 0 1 0        0  2 -1        2
    0 1 0 0        1 -1 -1        1           key block 2 is seen by queries[3:5] = 0, 1
"""

from dataclasses import dataclass

import torch
from torch import Tensor


def chunk_bytes(device: torch.device) -> int:
    """Return the bytes that selecting and transposing hold at a time: more on a GPU, as each chunk is some launches."""
    return (256 if device.type == "cuda" else 16) << 20


@dataclass(frozen=True)
class BlockLists:
    """The key blocks of each query block. B and heads may be 1: one list for all.

    Attributes:
        indices: int32 [B, heads, query blocks, R]: key blocks, ascending, then -1.
        counts: int32 [B, heads, query blocks]: how many of the R are key blocks.
    """

    indices: Tensor
    counts: Tensor

    @classmethod
    def of_mask(cls, mask: Tensor, width: int | None = None) -> "BlockLists":
        """Make lists from a mask.

        Args:
            mask: bool [query blocks, key blocks], or [B, heads, query blocks, key blocks].
            width: R, at least the longest row's count. Default: that count; reading it waits for the GPU.
        """
        mask = mask.view(*(1,) * (4 - mask.ndim), *mask.shape)
        blocks = mask.shape[-1]
        places = torch.arange(blocks, device=mask.device, dtype=torch.int32).where(mask, blocks).sort(-1).values
        counts = mask.sum(-1, dtype=torch.int32)
        indices = places[..., : _longest(counts) if width is None else width]
        return cls(indices.masked_fill(indices == blocks, -1), counts)

    def narrowed(self) -> "BlockLists":
        """Cut R to the longest row's count, which waits for the GPU; inside a graph, return the lists unchanged."""
        width = _longest(self.counts)
        return self if width is None else BlockLists(self.indices[..., :width].contiguous(), self.counts)

    def mask(self, key_blocks: int) -> Tensor:
        """Return bool [B, heads, query blocks, key blocks]."""
        mask = torch.zeros(*self.counts.shape, key_blocks + 1, dtype=torch.bool, device=self.counts.device)
        mask.scatter_(-1, self.indices.long().where(self.indices >= 0, key_blocks), True)
        return mask[..., :-1]

    def transpose(self, key_blocks: int) -> tuple[Tensor, Tensor]:
        """Return the lists seen from the keys, flat: a popular key block's may be as long as all query blocks.

        Returns:
            queries int32 [B, heads, query blocks × R] and starts int32 [B, heads, key blocks + 1]: key block j is
            attended to by queries[starts[j] : starts[j + 1]], ascending. Sizes are known beforehand, so that nothing
            waits for the device.
        """
        return transpose_lists(self.indices, self.counts, key_blocks)


def transpose_lists(indices: Tensor, counts: Tensor, key_blocks: int) -> tuple[Tensor, Tensor]:
    """Compute `BlockLists.transpose` from its parts, some heads at a time: sorting takes six times their memory."""
    heads = max(1, chunk_bytes(indices.device) // (24 * max(1, indices.shape[2] * indices.shape[3])))
    queries = torch.empty_like(indices).flatten(-2)
    starts = indices.new_empty(*indices.shape[:2], key_blocks + 1)
    for sample in range(indices.shape[0]):
        for first in range(0, indices.shape[1], heads):
            some = sample, slice(first, first + heads)
            queries[some], starts[some] = _transposed(indices[some], counts[some], key_blocks)
    return queries, starts


def _transposed(indices: Tensor, counts: Tensor, key_blocks: int) -> tuple[Tensor, Tensor]:
    slots = torch.arange(indices.shape[-1], device=indices.device)
    keys = indices.where(slots < counts[..., None], key_blocks).flatten(-2)
    ordered, places = keys.sort(dim=-1, stable=True)
    queries = (places // max(1, indices.shape[-1])).to(torch.int32)
    bounds = torch.arange(key_blocks + 1, device=indices.device, dtype=ordered.dtype)
    starts = torch.searchsorted(ordered, bounds.expand(*ordered.shape[:-1], -1).contiguous(), out_int32=True)
    return queries, starts


def _longest(counts: Tensor) -> int | None:
    """Return the largest count; None inside a graph, which reading it would break."""
    return None if torch.compiler.is_compiling() or not counts.numel() else int(counts.max())
