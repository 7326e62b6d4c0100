"""Launches the selection's kernels: what `kernels.selection` and `kernels.ranking` compute with PyTorch, the same
to the bit where sums are exact, in few passes over memory: no copy of all tokens, no sorting.
"""

from typing import Any

import torch
import triton
from torch import Tensor

from reelwright.kernels.lists import chunk_bytes
from reelwright.kernels.triton import selection as triton_selection

WIDEST = 4096
"""Key blocks of a row that a program holds without spills: a quarter of a million tokens in blocks of 64."""
TILE = 32
"""Rows of a block that are added at a time."""


def block_means(x: Tensor, offsets: Tensor) -> Tensor:
    """fp64 [B, heads, blocks, D] of x [B, heads, N, D], whose block i is rows offsets[i] to offsets[i + 1]."""
    x, blocks, dim = x.contiguous(), offsets.numel() - 1, x.shape[-1]
    found = x.new_empty(*x.shape[:2], blocks, dim, dtype=torch.float64)
    if found.numel():
        with torch.cuda.device_of(x):
            triton_selection.means[(x.shape[0] * x.shape[1] * blocks,)](
                x, found, offsets, blocks, x.shape[2], TILE=TILE, D=dim, DIM=triton.next_power_of_2(dim)
            )
    return found


def best_blocks(
    means_q: Tensor, means_k: Tensor, factor: float, step: float, seen: Tensor | None, kept: Tensor | float, width: int
) -> tuple[Tensor, Tensor]:
    """`ranking.best_blocks`, of finished questions: kept int32 [query blocks], how many of each row; or, a number, the
    softmax to reach. factor: from products of means to `step`s, of which scores are whole numbers."""
    (batch, heads, rows, _), blocks = means_q.shape, means_k.shape[2]
    indices = means_q.new_full((batch, heads, rows, width), -1, dtype=torch.int32)
    counts = means_q.new_empty(batch, heads, rows, dtype=torch.int32)
    by_softmax = isinstance(kept, float)
    given = {
        "factor": means_q.new_full((), factor), "seen": counts if seen is None else seen.to(torch.uint8).contiguous(),
        "kept": counts if by_softmax else kept, "p": means_q.new_full((), kept if by_softmax else 0.0),
    }  # fmt: skip
    wide = triton.next_power_of_2(blocks)
    constants = {"WIDE": wide, "HIDES": seen is not None, "CDF": by_softmax, "STEP": step}
    chunk = max(1, chunk_bytes(means_q.device) // (8 * max(1, batch * heads * blocks)))
    for first in range(0, rows, chunk):
        scores = means_q[:, :, first : first + chunk] @ means_k.mT
        if scores.numel():
            with torch.cuda.device_of(scores):
                triton_selection.ranked[(scores.numel() // blocks,)](
                    scores=scores, indices=indices, counts=counts, first=first, chunk=scores.shape[2], rows=rows,
                    blocks=blocks, width=width, **given, **constants, **options(wide),
                )  # fmt: skip
    return indices, counts


def options(wide: int) -> dict[str, Any]:
    """The compiler's, of `ranked`: a thread holds some eight numbers of its row, and rounds as PyTorch does."""
    return {"num_warps": min(32, max(4, wide // 256)), "enable_fp_fusion": False}
