"""Which key blocks each query block attends to, as lists; and the same seen from the keys, for the backward pass."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class BlockLists:
    """indices int32 [B, heads, query blocks, R]: key blocks, ascending, -1 after a row's `counts`, int32 [B, heads,
    query blocks]. B and heads may be 1, for all.
    """

    indices: Tensor
    counts: Tensor

    @classmethod
    def of_mask(cls, mask: Tensor) -> "BlockLists":
        """From bool [query blocks, key blocks], or [B, heads, query blocks, key blocks]."""
        mask = mask.view(*(1,) * (4 - mask.ndim), *mask.shape)
        blocks = mask.shape[-1]
        places = torch.arange(blocks, device=mask.device, dtype=torch.int32).where(mask, blocks)
        return _from_places(places, mask.sum(-1, dtype=torch.int32), blocks)

    @classmethod
    def of_ranking(cls, ranking: Tensor, counts: Tensor) -> "BlockLists":
        """The first `counts` [B, heads, query blocks] of `ranking` [B, heads, query blocks, key blocks]."""
        blocks = ranking.shape[-1]
        kept = torch.arange(blocks, device=ranking.device) < counts[..., None]
        return _from_places(ranking.to(torch.int32).where(kept, blocks), counts.to(torch.int32), blocks)

    def mask(self, key_blocks: int) -> Tensor:
        """bool [B, heads, query blocks, key blocks]."""
        mask = torch.zeros(*self.counts.shape, key_blocks + 1, dtype=torch.bool, device=self.counts.device)
        mask.scatter_(-1, self.indices.long().where(self.indices >= 0, key_blocks), True)
        return mask[..., :-1]

    def transpose(self, key_blocks: int) -> tuple[Tensor, Tensor]:
        """(queries, starts): key block j is attended to by query blocks queries[starts[j] : starts[j + 1]], ascending.

        int32 [B, heads, query blocks × R] and [B, heads, key blocks + 1]. Flat, since a popular key block's row may be
        as long as all query blocks; of a size known beforehand, so that nothing waits for the device.
        """
        return transpose_lists(self.indices, self.counts, key_blocks)


def transpose_lists(indices: Tensor, counts: Tensor, key_blocks: int) -> tuple[Tensor, Tensor]:
    """`BlockLists.transpose`, of its parts."""
    slots = torch.arange(indices.shape[-1], device=indices.device)
    keys = indices.where(slots < counts[..., None], key_blocks).flatten(-2)
    ordered, places = keys.sort(dim=-1, stable=True)
    queries = (places // max(1, indices.shape[-1])).to(torch.int32)
    bounds = torch.arange(key_blocks + 1, device=indices.device, dtype=ordered.dtype)
    starts = torch.searchsorted(ordered, bounds.expand(*ordered.shape[:-1], -1).contiguous(), out_int32=True)
    return queries, starts


def _from_places(places: Tensor, counts: Tensor, blocks: int) -> BlockLists:
    """places: block numbers in any order, `blocks` where there is none. As narrow as the longest row, if that is known
    without a graph break."""
    width = blocks if torch.compiler.is_compiling() or not counts.numel() else int(counts.max())
    indices = places.sort(-1).values[..., :width]
    return BlockLists(indices.masked_fill(indices == blocks, -1), counts)
