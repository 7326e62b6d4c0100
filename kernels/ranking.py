"""Rank the key blocks of each query block: an operator, so that compilers and checkpoints see one step.

Selective checkpointing keeps products of matrices; kept scores of a long video would be gigabytes per layer.

Scores are computed in the type of the means (`means_dtype`) and rounded to 2⁻¹⁶: equal keys then tie on every device,
and ties go to the lowest block.
"""

import math
from typing import Any

import torch
from torch import Tensor

from reelwright.kernels.lists import chunk_bytes
from reelwright.kernels.means import means_dtype, products

STEP = 2.0**-16
"""Unit of scores: closer ones tie. e to its power is 1.00002."""
SLACK = 1e-6
"""Excess of a share of blocks that is not rounded up: 0.07 · 100 is 7.000000000000001 in floats, and means seven."""


@torch.library.custom_op("reelwright::best_blocks", mutates_args=())
def best_blocks(
    means_q: Tensor, means_k: Tensor, scale: float, seen: Tensor | None, rule: str, keep: float, backend: str = "torch"
) -> tuple[Tensor, Tensor]:
    """Keep the best key blocks of each query block.

    Args:
        means_q: [B, heads, query blocks, D] of `means_dtype`.
        means_k: [B, heads, key blocks, D].
        scale: factor of the scores.
        seen: bool [query blocks, key blocks]; None: all.
        rule: keep the best by "number", by "share" of those seen, or until their softmax reaches `keep` ("cdf").
        keep: the number, share or softmax.
        backend: torch or triton. PyTorch takes some rows at a time: all scores of a long video would be gigabytes.

    Returns:
        indices and counts as in `BlockLists`. R is known beforehand, so that nothing waits for a GPU; with "cdf" it is
        the number of key blocks.
    """
    if backend == "triton" and means_k.shape[2]:
        from reelwright.kernels.triton.ranking import MAX_KEY_BLOCKS

        if means_k.shape[2] <= MAX_KEY_BLOCKS:
            with torch.autocast(means_q.device.type, enabled=False):
                return _by_triton(means_q, means_k, scale, seen, rule, keep)
    (batch, heads, rows, _), blocks = means_q.shape, means_k.shape[2]
    indices = means_q.new_empty(batch, heads, rows, list_width(blocks, rule, keep), dtype=torch.int32)
    counts = means_q.new_empty(batch, heads, rows, dtype=torch.int32)
    step = max(1, chunk_bytes(means_q.device) // (8 * max(1, batch * heads * blocks)))
    for first in range(0, rows, step):
        some = slice(first, first + step)
        ranks = ranks_of(means_q[:, :, some], means_k, scale)
        num_seen = None if seen is None else seen[some].sum(-1)
        if seen is not None:
            ranks.masked_fill_(~seen[some], -torch.inf)
        best, kept = _crossing(ranks, num_seen, keep) if rule == "cdf" else _top(ranks, num_seen, rule, keep)
        counts[:, :, some] = kept
        indices[:, :, some] = _ascending(best, counts[:, :, some], blocks)
    return indices, counts


@best_blocks.register_fake
def _(means_q: Tensor, means_k: Tensor, *options: Any) -> tuple[Tensor, Tensor]:
    counts = means_q.new_empty(means_q.shape[:3], dtype=torch.int32)
    return counts.new_empty(*counts.shape, list_width(means_k.shape[2], *options[2:4])), counts


@torch.library.custom_op("reelwright::block_means", mutates_args=())
def block_means(x: Tensor, offsets: Tensor) -> Tensor:
    """Average blocks of tokens by Triton; see `triton.ranking.block_means`."""
    from reelwright.kernels.triton import ranking

    return ranking.block_means(x, offsets, means_dtype(x))


@block_means.register_fake
def _(x: Tensor, offsets: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:2], offsets.shape[0] - 1, x.shape[-1], dtype=means_dtype(x))


def list_width(blocks: int, rule: str, keep: float) -> int:
    """Return R, the most key blocks that a row can keep."""
    if rule == "cdf":
        return blocks
    return min(int(keep), blocks) if rule == "number" else max(1, math.ceil(blocks * keep - SLACK))


def ranks_of(means_q: Tensor, means_k: Tensor, scale: float) -> Tensor:
    """Rank key blocks by score, then by place.

    A rank is a score in STEPs times the number of key blocks, plus the number of blocks that come after this one. It is
    exact: scores that fp64 has no digits left for are clamped, and then tie.

    Args:
        means_q: [B, heads, query blocks, D] of `means_dtype`.
        means_k: [B, heads, key blocks, D].
        scale: factor of the scores.

    Returns:
        fp64 [B, heads, query blocks, key blocks]: whole numbers, no two of a row alike, higher for better blocks.
    """
    blocks = means_k.shape[2]
    with torch.autocast(means_q.device.type, enabled=False):
        scores = products(means_q, means_k).double()
    limit = 2**52 // blocks
    scores.mul_(scale / STEP).round_().clamp_(-limit, limit)
    return scores.mul_(blocks).add_(torch.arange(blocks - 1, -1, -1, device=scores.device))


def scores_of(ranks: Tensor) -> Tensor:
    """Return the scores, rounded to STEP, that `ranks_of` ranked; -inf stays."""
    blocks = ranks.shape[-1]
    return (ranks - ranks.remainder(blocks)).mul_(STEP / blocks).masked_fill_(ranks == -torch.inf, -torch.inf)


def _top(ranks: Tensor, num_seen: Tensor | None, rule: str, keep: float) -> tuple[Tensor, Tensor | int]:
    """Return blocks, the best first where a row may not keep them all, and how many it keeps."""
    width = list_width(ranks.shape[-1], rule, keep)
    best = ranks.topk(width, dim=-1, sorted=num_seen is not None).indices
    return best, width if num_seen is None else _kept(num_seen, width, rule, keep)


def _kept(num_seen: Tensor, width: int, rule: str, keep: float) -> Tensor:
    """Return how many blocks each row keeps of those it sees."""
    return num_seen.clamp(max=width) if rule == "number" else (num_seen.double() * keep - SLACK).ceil().clamp(min=1)


def _by_triton(
    means_q: Tensor, means_k: Tensor, scale: float, seen: Tensor | None, rule: str, keep: float
) -> tuple[Tensor, Tensor]:
    from reelwright.kernels.triton import ranking

    width = list_width(means_k.shape[2], rule, keep)
    kept: Tensor | float = keep
    if rule != "cdf" and seen is None:
        kept = torch.full(means_q.shape[2:3], width, dtype=torch.int32, device=means_q.device)
    elif rule != "cdf" and seen is not None:
        kept = _kept(seen.sum(-1), width, rule, keep).to(torch.int32)
    return ranking.best_blocks(means_q, means_k, scale / STEP, STEP, seen, kept, width)


def _crossing(ranks: Tensor, num_seen: Tensor | None, p: float) -> tuple[Tensor, Tensor | int]:
    """Return blocks, the best first, and how many it takes for their softmax to reach p."""
    best = ranks.sort(dim=-1, descending=True)
    most = ranks.new_full((), ranks.shape[-1], dtype=torch.int64) if num_seen is None else num_seen
    if math.isclose(p, 1.0, abs_tol=1e-12):
        return best.indices, most
    before = scores_of(best.values).softmax(-1).cumsum(-1)[..., :-1]
    short = (before < p).sum(-1) + 1
    return best.indices, short.minimum(most)


def _ascending(best: Tensor, counts: Tensor, blocks: int) -> Tensor:
    """Return the first `counts` of each row, in order; then -1."""
    kept = torch.arange(best.shape[-1], device=best.device) < counts[..., None]
    ordered = best.to(torch.int32).where(kept, blocks).sort(-1).values
    return ordered.masked_fill_(ordered == blocks, -1)
