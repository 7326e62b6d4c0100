"""Which key blocks each query block attends to, as lists; and the same seen from the keys, for the backward pass."""

from dataclasses import dataclass

import torch
from torch import Tensor


def chunk_bytes(device: torch.device) -> int:
    """What selecting and transposing hold at a time: on a GPU more, since each chunk is a few launches."""
    return (256 if device.type == "cuda" else 16) << 20


@dataclass(frozen=True)
class BlockLists:
    """indices int32 [B, heads, query blocks, R]: key blocks, ascending, -1 after a row's `counts`, int32 [B, heads,
    query blocks]. B and heads may be 1, for all.
    """

    indices: Tensor
    counts: Tensor

    @classmethod
    def of_mask(cls, mask: Tensor, width: int | None = None) -> "BlockLists":
        """From bool [query blocks, key blocks], or [B, heads, query blocks, key blocks]. width: R, at least that of the
        longest row; found, for which a GPU is waited for, if not given."""
        mask = mask.view(*(1,) * (4 - mask.ndim), *mask.shape)
        blocks = mask.shape[-1]
        places = torch.arange(blocks, device=mask.device, dtype=torch.int32).where(mask, blocks).sort(-1).values
        counts = mask.sum(-1, dtype=torch.int32)
        indices = places[..., : _longest(counts) if width is None else width]
        return cls(indices.masked_fill(indices == blocks, -1), counts)

    def narrowed(self) -> "BlockLists":
        """As wide as the longest row, for which a GPU is waited for; as they are where to ask would break a graph."""
        width = _longest(self.counts)
        return self if width is None else BlockLists(self.indices[..., :width].contiguous(), self.counts)

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
    """`BlockLists.transpose`, of its parts; some heads at a time, as sorting takes six times their memory."""
    heads = max(1, chunk_bytes(indices.device) // (24 * max(1, indices.shape[2] * indices.shape[3])))
    queries = torch.empty_like(indices).flatten(-2)
    starts = indices.new_empty(*indices.shape[:2], key_blocks + 1)
    for sample in range(indices.shape[0]):
        for first in range(0, indices.shape[1], heads):
            at = sample, slice(first, first + heads)
            queries[at], starts[at] = _transposed(indices[at], counts[at], key_blocks)
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
    """Of the rows; None where to ask would break a graph."""
    return None if torch.compiler.is_compiling() or not counts.numel() else int(counts.max())
