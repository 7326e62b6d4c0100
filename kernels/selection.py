"""Which key blocks a query block attends to, by mean-pooled scores (LongCat-Video technical report, A.2).

Scores are computed in fp64 and rounded to 2⁻¹⁶: equal keys then tie on every device, and ties go to the lowest block.
What is large is made in chunks, so that little memory is needed besides the lists.
"""

import math
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from kernels.blocks import BlockGrid
from kernels.lists import BlockLists, chunk_bytes

STEP = 2.0**-16
"""Scores closer than this are one; e to its power is 1.00002."""
SLACK = 1e-6
"""Of a share of blocks: 0.07 · 100 is 7.000000000000001 in floats, and no eighth block is meant."""


@dataclass(frozen=True)
class TopR:
    """Keep the `keep` best blocks: an int is their number, a float their share of the blocks that can be seen.

    A share is rounded up, and at least one block is kept: TopR(1) keeps one, TopR(1.0) all.
    """

    keep: int | float

    def __post_init__(self) -> None:
        share = isinstance(self.keep, float)
        if isinstance(self.keep, bool) or not (0 <= self.keep <= 1 if share else self.keep >= 1):
            raise ValueError(f"TopR({self.keep!r}): a number of blocks from 1, or a float share in 0..1, is needed")


@dataclass(frozen=True)
class CDF:
    """Keep the best blocks until their softmax reaches p, with the one that crosses it: never none, and at 1 all."""

    p: float

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise ValueError(f"CDF({self.p!r}): p must lie in 0..1")


Select: TypeAlias = TopR | CDF | BlockLists | Tensor


@torch.no_grad()
def select_blocks(
    q: Tensor, k: Tensor, grid_q: BlockGrid, grid_k: BlockGrid, select: Select, scale: float | None = None
) -> BlockLists:
    """q [B, heads, Nq, D], k [B, heads, Nk, D], in block order -> the lists. Condition queries see condition keys only.

    select: a rule; or a bool mask [(B, heads,) query blocks, key blocks], to which the condition's is added; or
    finished lists, taken as they are. scale: of scores, 1 / sqrt(D) if not given.
    """
    if isinstance(select, BlockLists):
        return select
    seen = visible(grid_q, grid_k, q.device)
    if isinstance(select, Tensor):
        _check_mask(select, q, grid_q, grid_k)
        return BlockLists.of_mask(select.to(q.device) if seen is None else select.to(q.device) & seen)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return choose(pooled(q, grid_q), pooled(k, grid_k), scale, seen, select)


def visible(grid_q: BlockGrid, grid_k: BlockGrid, device: torch.device | str = "cpu") -> Tensor | None:
    """bool [query blocks, key blocks] where a condition hides keys from queries; None where all are seen."""
    if not grid_q.split:
        return None
    clean_q = grid_q.bounds(device)[:, 0, 1] <= grid_q.split
    clean_k = grid_k.bounds(device)[:, 0, 1] <= grid_k.split
    return clean_k | ~clean_q[:, None]


def pooled(x: Tensor, grid: BlockGrid) -> Tensor:
    """fp64 [B, heads, blocks, D]: means over the tokens of each block of x [B, heads, N, D], in block order.

    Some heads at a time, since PyTorch copies to fp64 what it sums in fp64.
    """
    heads = max(1, chunk_bytes(x.device) // (8 * max(1, x[:, :1].numel())))
    means = x.new_empty(*x.shape[:2], grid.count, x.shape[-1], dtype=torch.float64)
    for first in range(0, x.shape[1], heads):
        at = slice(first, first + heads)
        for blocks, places in grid.alike(x.device):
            if len(blocks) == grid.count:
                torch.mean(x[:, at].unflatten(2, places.shape), 3, dtype=torch.float64, out=means[:, at])
            else:
                means[:, at, blocks] = x[:, at][:, :, places].mean(3, dtype=torch.float64)
    return means


@torch.no_grad()
def choose(means_q: Tensor, means_k: Tensor, scale: float, seen: Tensor | None, select: TopR | CDF) -> BlockLists:
    """Lists by a rule from `pooled` queries and keys; seen [query blocks, key blocks]: None is all.

    Some rows at a time: the scores of all, in fp64, would be gigabytes for a long video.
    """
    if not isinstance(select, TopR | CDF):
        raise ValueError(f"select {select!r}: TopR, CDF, a bool mask of blocks or BlockLists is needed")
    heads, blocks = means_q.shape[0] * means_q.shape[1], means_k.shape[2]
    rows = max(1, chunk_bytes(means_q.device) // (8 * max(1, heads * blocks)))
    parts = []
    for first in range(0, means_q.shape[2], rows):
        at = slice(first, first + rows)
        ranks = ranks_of(means_q[:, :, at], means_k, scale)
        if seen is not None:
            ranks.masked_fill_(~seen[at], -torch.inf)
        among = None if seen is None else seen[at].sum(-1)
        parts.append(_top(ranks, among, select.keep) if isinstance(select, TopR) else _crossing(ranks, among, select.p))
    return BlockLists.of_rows(parts)


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


def _top(ranks: Tensor, among: Tensor | None, keep: int | float) -> BlockLists:
    """The best of each row; among [query blocks]: how many it can see, None is all. The width is known beforehand."""
    blocks = ranks.shape[-1]
    most = min(keep, blocks) if isinstance(keep, int) else max(1, math.ceil(blocks * keep - SLACK))
    best = ranks.topk(most, dim=-1, sorted=among is not None).indices
    if among is None:
        return BlockLists.of_ranking(best, None, blocks)
    if isinstance(keep, int):
        return BlockLists.of_ranking(best, among.clamp(max=keep), blocks, narrow=False)
    return BlockLists.of_ranking(best, (among.double() * keep - SLACK).ceil().clamp(min=1), blocks, narrow=False)


def _crossing(ranks: Tensor, among: Tensor | None, p: float) -> BlockLists:
    """As many of the best of each row as it takes for their softmax to reach p."""
    blocks = ranks.shape[-1]
    best = ranks.sort(dim=-1, descending=True)
    most = ranks.new_full((), blocks, dtype=torch.int64) if among is None else among
    if math.isclose(p, 1.0, abs_tol=1e-12):
        return BlockLists.of_ranking(best.indices, most, blocks)
    before = scores_of(best.values).softmax(-1).cumsum(-1)[..., :-1]
    short = (before < p).sum(-1) + 1
    return BlockLists.of_ranking(best.indices, short.minimum(most), blocks)


def _check_mask(mask: Tensor, q: Tensor, grid_q: BlockGrid, grid_k: BlockGrid) -> None:
    blocks = (grid_q.count, grid_k.count)
    spread = zip(mask.shape[:-2], q.shape[:2], strict=False)
    fits = mask.ndim in {2, 4} and all(a in {1, b} for a, b in spread)
    if mask.dtype != torch.bool or not fits or mask.shape[-2:] != blocks:
        raise ValueError(
            f"a block mask of shape {tuple(mask.shape)}, {mask.dtype}: bool {list(blocks)} is needed, "
            f"or [{q.shape[0]} or 1, {q.shape[1]} or 1, {blocks[0]}, {blocks[1]}]"
        )
