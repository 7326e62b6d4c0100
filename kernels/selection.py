"""Which key blocks a query block attends to, by mean-pooled scores (LongCat-Video technical report, A.2).

Scores are computed in fp64 and rounded to 2⁻¹⁶: equal keys then tie on every device, and ties go to the lowest block.
"""

import math
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from kernels.blocks import BlockGrid
from kernels.lists import BlockLists

STEP = 2.0**-16
"""Scores closer than this are one; e to its power is 1.00002."""


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
    return choose(scores_of(pooled(q, grid_q), pooled(k, grid_k), scale), seen, select)


def visible(grid_q: BlockGrid, grid_k: BlockGrid, device: torch.device | str = "cpu") -> Tensor | None:
    """bool [query blocks, key blocks] where a condition hides keys from queries; None where all are seen."""
    if not grid_q.split:
        return None
    clean_q = grid_q.bounds(device)[:, 0, 1] <= grid_q.split
    clean_k = grid_k.bounds(device)[:, 0, 1] <= grid_k.split
    return clean_k | ~clean_q[:, None]


@torch.no_grad()
def block_scores(q: Tensor, k: Tensor, grid_q: BlockGrid, grid_k: BlockGrid, scale: float) -> Tensor:
    """fp64 [B, heads, query blocks, key blocks]: products of mean-pooled queries and keys, rounded to STEP."""
    return scores_of(pooled(q, grid_q), pooled(k, grid_k), scale)


def scores_of(means_q: Tensor, means_k: Tensor, scale: float) -> Tensor:
    """`block_scores` of `pooled` queries and keys."""
    with torch.autocast(means_q.device.type, enabled=False):
        scores = means_q @ means_k.mT
    return scores.mul_(scale / STEP).round_().mul_(STEP)


def pooled(x: Tensor, grid: BlockGrid) -> Tensor:
    """fp64 [B, heads, blocks, D]: means over the tokens of each block of x [B, heads, N, D], in block order."""
    if grid.count * grid.capacity == grid.tokens:
        return x.unflatten(2, (grid.count, grid.capacity)).mean(3, dtype=torch.float64)
    means = x.new_empty(*x.shape[:2], grid.count, x.shape[-1], dtype=torch.float64)
    for blocks, places in grid.alike(x.device):
        means[:, :, blocks] = x[:, :, places].mean(3, dtype=torch.float64)
    return means


def choose(scores: Tensor, seen: Tensor | None, select: TopR | CDF) -> BlockLists:
    """Lists by a rule from scores [B, heads, query blocks, key blocks]; seen [query, key blocks]: None is all."""
    if not isinstance(select, TopR | CDF):
        raise ValueError(f"select {select!r}: TopR, CDF, a bool mask of blocks or BlockLists is needed")
    if seen is not None:
        scores = scores.masked_fill(~seen, -torch.inf)
    best = scores.sort(dim=-1, descending=True, stable=True)
    among = scores.new_full((1, scores.shape[-2]), scores.shape[-1]) if seen is None else seen.sum(-1)[None]
    counts = _top(among, select.keep) if isinstance(select, TopR) else _crossing(best.values, among, select.p)
    return BlockLists.of_ranking(best.indices, counts.to(torch.int32).expand(scores.shape[:-1]).contiguous())


def _top(among: Tensor, keep: int | float) -> Tensor:
    if isinstance(keep, int):
        return among.clamp(max=keep)
    # 0.07 · 100 is 7.000000000000001 in floats, and no eighth block is meant
    return (among * keep - 1e-6).ceil().clamp(min=1)


def _crossing(ranked: Tensor, among: Tensor, p: float) -> Tensor:
    """How many of the ranked scores it takes for their softmax to reach p."""
    if math.isclose(p, 1.0, abs_tol=1e-12):
        return among.expand(ranked.shape[:-1])
    before = ranked.softmax(-1).cumsum(-1)[..., :-1]
    short = (before < p).sum(-1) + 1
    return short.minimum(among.expand_as(short))


def _check_mask(mask: Tensor, q: Tensor, grid_q: BlockGrid, grid_k: BlockGrid) -> None:
    blocks = (grid_q.count, grid_k.count)
    spread = zip(mask.shape[:-2], q.shape[:2], strict=False)
    fits = mask.ndim in {2, 4} and all(a in {1, b} for a, b in spread)
    if mask.dtype != torch.bool or not fits or mask.shape[-2:] != blocks:
        raise ValueError(
            f"a block mask of shape {tuple(mask.shape)}, {mask.dtype}: bool {list(blocks)} is needed, "
            f"or [{q.shape[0]} or 1, {q.shape[1]} or 1, {blocks[0]}, {blocks[1]}]"
        )
