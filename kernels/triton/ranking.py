"""Launch the selection's kernels, which compute what `kernels.selection` and `kernels.ranking` do with PyTorch.

They take few passes over memory: nothing copies all tokens or sorts. Results are the same to the bit where sums are
exact.
"""

from typing import Any

import torch
import triton
from torch import Tensor

from reelwright.kernels.lists import chunk_bytes
from reelwright.kernels.means import products
from reelwright.kernels.triton import selection

MAX_KEY_BLOCKS = 4096
"""Key blocks of a row that one program holds without spills: a quarter of a million tokens in blocks of 64."""
TILE = 32
"""Rows of a block that are added at a time."""


def block_means(x: Tensor, offsets: Tensor, dtype: torch.dtype) -> Tensor:
    """Average blocks of tokens.

    Args:
        x: [B, heads, N, D], in block order.
        offsets: int32 [blocks + 1]; block i is rows offsets[i] to offsets[i + 1].
        dtype: of the sums and the means, fp64 or fp32.

    Returns:
        [B, heads, blocks, D] of `dtype`.
    """
    x, blocks, dim = x.contiguous(), offsets.numel() - 1, x.shape[-1]
    out = x.new_empty(*x.shape[:2], blocks, dim, dtype=dtype)
    if out.numel():
        with torch.cuda.device_of(x):
            selection.means[(x.shape[0] * x.shape[1] * blocks,)](
                x, out, offsets, blocks, x.shape[2],
                TILE=TILE, HEAD_DIM=dim, PADDED_DIM=triton.next_power_of_2(dim),
            )  # fmt: skip
    return out


def best_blocks(
    means_q: Tensor, means_k: Tensor, factor: float, step: float, seen: Tensor | None, kept: Tensor | float, width: int
) -> tuple[Tensor, Tensor]:
    """Rank key blocks and keep the best, as `ranking.best_blocks`.

    Args:
        means_q: [B, heads, query blocks, D], fp64 or fp32.
        means_k: [B, heads, key blocks, D].
        factor: from products of means to `step`s; scores are whole numbers of steps.
        step: scores closer than this are one.
        seen: bool [query blocks, key blocks]; None: all.
        kept: int32 [query blocks], how many of each row; or, a number, the softmax to reach.
        width: R of the lists.
    """
    (batch, heads, rows, _), blocks = means_q.shape, means_k.shape[2]
    indices = means_q.new_full((batch, heads, rows, width), -1, dtype=torch.int32)
    counts = means_q.new_empty(batch, heads, rows, dtype=torch.int32)
    by_softmax = isinstance(kept, float)
    given = {
        "factor_ptr": means_q.new_full((), factor, dtype=torch.float64),
        "seen_ptr": counts if seen is None else seen.to(torch.uint8).contiguous(),
        "kept_ptr": counts if by_softmax else kept,
        "p_ptr": means_q.new_full((), kept if by_softmax else 0.0, dtype=torch.float64),
    }
    padded = triton.next_power_of_2(blocks)
    constants = {"PADDED": padded, "HIDES": seen is not None, "CDF": by_softmax, "STEP": step}
    chunk = max(1, chunk_bytes(means_q.device) // (8 * max(1, batch * heads * blocks)))
    for first in range(0, rows, chunk):
        scores = products(means_q[:, :, first : first + chunk], means_k)
        if scores.numel():
            with torch.cuda.device_of(scores):
                selection.ranked[(scores.numel() // blocks,)](
                    scores_ptr=scores, indices_ptr=indices, counts_ptr=counts, first=first, chunk=scores.shape[2],
                    rows=rows, blocks=blocks, width=width, **given, **constants, **compiler_options(padded),
                )  # fmt: skip
    return indices, counts


def compiler_options(padded: int) -> dict[str, Any]:
    """Return `ranked`'s for rows of `padded` blocks: a thread holds some eight numbers, and rounds as PyTorch does."""
    return {"num_warps": min(32, max(4, padded // 256)), "enable_fp_fusion": False}
