"""Which key blocks have the highest scores for each query block: an operator, so that compilers and checkpoints see one
step. (Selective checkpointing keeps products of matrices; of a long video's scores, that would be gigabytes a layer.)

Scores are computed in fp64 and rounded to 2⁻¹⁶: equal keys then tie on every device, and ties go to the lowest block.
"""

import math
from typing import Any

import torch
from torch import Tensor

from reelwright.kernels.lists import chunk_bytes

STEP = 2.0**-16
"""Scores closer than this are one; e to its power is 1.00002."""
SLACK = 1e-6
"""Of a share of blocks: 0.07 · 100 is 7.000000000000001 in floats, and no eighth block is meant."""


@torch.library.custom_op("reelwright::best_blocks", mutates_args=())
def best_blocks(
    means_q: Tensor, means_k: Tensor, scale: float, seen: Tensor | None, rule: str, keep: float, backend: str = "torch"
) -> tuple[Tensor, Tensor]:
    """fp64 means [B, heads, blocks, D] of queries and keys -> indices and counts as in `BlockLists`.

    seen: bool [query blocks, key blocks], None: all. rule: the best by "number", by "share" of those seen, or until
    their softmax reaches keep ("cdf"). The width is known beforehand, so that nothing waits for a GPU; of "cdf" it is
    all key blocks. Some rows at a time, for all scores of a long video would be gigabytes. backend: torch or triton.
    """
    if backend == "triton" and means_k.shape[2]:
        from reelwright.kernels.triton import ranking as triton_ranking

        if means_k.shape[2] <= triton_ranking.WIDEST:
            with torch.autocast(means_q.device.type, enabled=False):
                return _by_triton(means_q, means_k, scale, seen, rule, keep)
    (batch, heads, rows, _), blocks = means_q.shape, means_k.shape[2]
    indices = means_q.new_empty(batch, heads, rows, _width(blocks, rule, keep), dtype=torch.int32)
    counts = means_q.new_empty(batch, heads, rows, dtype=torch.int32)
    step = max(1, chunk_bytes(means_q.device) // (8 * max(1, batch * heads * blocks)))
    for first in range(0, rows, step):
        at = slice(first, first + step)
        ranks = ranks_of(means_q[:, :, at], means_k, scale)
        among = None if seen is None else seen[at].sum(-1)
        if seen is not None:
            ranks.masked_fill_(~seen[at], -torch.inf)
        best, kept = _crossing(ranks, among, keep) if rule == "cdf" else _top(ranks, among, rule, keep)
        counts[:, :, at] = kept
        indices[:, :, at] = _ascending(best, counts[:, :, at], blocks)
    return indices, counts


@best_blocks.register_fake
def _(means_q: Tensor, means_k: Tensor, *options: Any) -> tuple[Tensor, Tensor]:
    counts = means_q.new_empty(means_q.shape[:3], dtype=torch.int32)
    return counts.new_empty(*counts.shape, _width(means_k.shape[2], *options[2:4])), counts


@torch.library.custom_op("reelwright::block_means", mutates_args=())
def block_means(x: Tensor, offsets: Tensor) -> Tensor:
    """fp64 [B, heads, blocks, D] of x [B, heads, N, D] in block order, by Triton: block i is rows offsets[i] to
    offsets[i + 1]."""
    from reelwright.kernels.triton import ranking as triton_ranking

    return triton_ranking.block_means(x, offsets)


@block_means.register_fake
def _(x: Tensor, offsets: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:2], offsets.shape[0] - 1, x.shape[-1], dtype=torch.float64)


def _width(blocks: int, rule: str, keep: float) -> int:
    if rule == "cdf":
        return blocks
    return min(int(keep), blocks) if rule == "number" else max(1, math.ceil(blocks * keep - SLACK))


def ranks_of(means_q: Tensor, means_k: Tensor, scale: float) -> Tensor:
    """fp64 [B, heads, query blocks, key blocks]: whole numbers, no two of a row alike, higher for what is kept first.

    A score in STEPs times the number of key blocks, plus how many blocks come after this one. Exact: for scores that
    fp64 has no digits left for, the bound comes first, and then the lowest block.
    """
    blocks = means_k.shape[2]
    with torch.autocast(means_q.device.type, enabled=False):
        scores = means_q @ means_k.mT
    limit = 2**52 // blocks
    scores.mul_(scale / STEP).round_().clamp_(-limit, limit)
    return scores.mul_(blocks).add_(torch.arange(blocks - 1, -1, -1, device=scores.device))


def scores_of(ranks: Tensor) -> Tensor:
    """Scores, rounded to STEP, of the `ranks_of` them; -inf stays."""
    blocks = ranks.shape[-1]
    return (ranks - ranks.remainder(blocks)).mul_(STEP / blocks).masked_fill_(ranks == -torch.inf, -torch.inf)


def _top(ranks: Tensor, among: Tensor | None, rule: str, keep: float) -> tuple[Tensor, Tensor | int]:
    """Blocks, the best first where a row may not keep them all, and how many it keeps."""
    width = _width(ranks.shape[-1], rule, keep)
    best = ranks.topk(width, dim=-1, sorted=among is not None).indices
    return best, width if among is None else _kept(among, width, rule, keep)


def _kept(among: Tensor, width: int, rule: str, keep: float) -> Tensor:
    """How many blocks a row keeps of those it sees."""
    return among.clamp(max=width) if rule == "number" else (among.double() * keep - SLACK).ceil().clamp(min=1)


def _by_triton(
    means_q: Tensor, means_k: Tensor, scale: float, seen: Tensor | None, rule: str, keep: float
) -> tuple[Tensor, Tensor]:
    from reelwright.kernels.triton import ranking as triton_ranking

    width = _width(means_k.shape[2], rule, keep)
    kept: Tensor | float = keep
    if rule != "cdf" and seen is None:
        kept = torch.full(means_q.shape[2:3], width, dtype=torch.int32, device=means_q.device)
    elif rule != "cdf" and seen is not None:
        kept = _kept(seen.sum(-1), width, rule, keep).to(torch.int32)
    return triton_ranking.best_blocks(means_q, means_k, scale / STEP, STEP, seen, kept, width)


def _crossing(ranks: Tensor, among: Tensor | None, p: float) -> tuple[Tensor, Tensor | int]:
    """Blocks, the best first, and how many it takes for their softmax to reach p."""
    best = ranks.sort(dim=-1, descending=True)
    most = ranks.new_full((), ranks.shape[-1], dtype=torch.int64) if among is None else among
    if math.isclose(p, 1.0, abs_tol=1e-12):
        return best.indices, most
    before = scores_of(best.values).softmax(-1).cumsum(-1)[..., :-1]
    short = (before < p).sum(-1) + 1
    return best.indices, short.minimum(most)


def _ascending(best: Tensor, counts: Tensor, blocks: int) -> Tensor:
    """The first `counts` of each row, in order; then -1."""
    kept = torch.arange(best.shape[-1], device=best.device) < counts[..., None]
    ordered = best.to(torch.int32).where(kept, blocks).sort(-1).values
    return ordered.masked_fill_(ordered == blocks, -1)
