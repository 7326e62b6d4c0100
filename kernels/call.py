"""One call of block-sparse attention: everything it computes with besides q, k and v."""

from typing import NamedTuple

import torch
from torch import Tensor

from reelwright.kernels.blocks import BlockGrid
from reelwright.kernels.lists import BlockLists


class BlockSparseCall(NamedTuple):
    """One call: which query blocks attend to which key blocks, and how the blocks lie in memory.

    The fields are in the order of the operators' arguments, so that `block_sparse(q, k, v, *call)` passes them.

    Attributes:
        indices: int32 [B, heads, query blocks, R], key blocks, as in `BlockLists`. B and heads may be 1.
        counts: int32 [B, heads, query blocks], how many of the R are used.
        offsets_q: int32 [query blocks + 1], the first token of each block, as in `BlockGrid.offsets`.
        offsets_k: int32 [key blocks + 1].
        capacity_q: tokens of the largest query block.
        capacity_k: tokens of the largest key block.
        scale: factor of the scores.
        backend: auto, torch or triton.
    """

    indices: Tensor
    counts: Tensor
    offsets_q: Tensor
    offsets_k: Tensor
    capacity_q: int
    capacity_k: int
    scale: float
    backend: str = "auto"

    @classmethod
    def of(
        cls, lists: BlockLists, blocks_q: BlockGrid, blocks_k: BlockGrid, *, scale: float, backend: str = "auto"
    ) -> "BlockSparseCall":
        """Build the call of some lists over two grids.

        Args:
            lists: key blocks of each query block.
            blocks_q: the queries' grid.
            blocks_k: the keys' grid.
            scale: factor of the scores; usually 1 / sqrt(D).
            backend: auto, torch or triton.
        """
        device = lists.indices.device
        return cls(
            lists.indices,
            lists.counts,
            blocks_q.offsets(device),
            blocks_k.offsets(device),
            blocks_q.capacity,
            blocks_k.capacity,
            scale,
            backend,
        )

    def expanded(self, q: Tensor) -> "BlockSparseCall":
        """Spread lists that all samples or heads of q [B, heads, Nq, D] share over them, without a copy."""
        indices = self.indices.expand(*q.shape[:2], -1, -1)
        return self._replace(indices=indices, counts=self.counts.expand(*q.shape[:2], -1))

    @property
    def key_blocks(self) -> int:
        """Number of key blocks."""
        return self.offsets_k.numel() - 1


def acc_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the type in which sums are accumulated: fp32, or fp64 for fp64."""
    return torch.promote_types(dtype, torch.float32)


def lse_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the type of the log-sum-exp: fp32 for halves, else fp64.

    Rounded to fp32, a log-sum-exp of 100 would cost each weight 4e-6, and every part of a ring its own.
    """
    return torch.float32 if dtype.itemsize < 4 else torch.float64
