"""Choose the key blocks of each query block by mean-pooled scores (LongCat-Video technical report, A.2).

Tokens are pooled here; `reelwright.kernels.ranking` computes scores and ranks them.
"""

from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from reelwright.kernels.blocks import BlockGrid
from reelwright.kernels.lists import BlockLists, chunk_bytes
from reelwright.kernels.means import means_dtype
from reelwright.kernels.operator import choose_backend
from reelwright.kernels.ranking import best_blocks, block_means


@dataclass(frozen=True)
class TopR:
    """Keep each query block's best key blocks.

    Attributes:
        keep: an int is their number, a float their share of the blocks that can be seen. A share is rounded up, and at
            least one block is kept: TopR(1) keeps one, TopR(1.0) all.
    """

    keep: int | float

    def __post_init__(self) -> None:
        share = isinstance(self.keep, float)
        if isinstance(self.keep, bool) or not (0 <= self.keep <= 1 if share else self.keep >= 1):
            raise ValueError(f"TopR({self.keep!r}): a number of blocks from 1, or a float share in 0..1, is needed")


@dataclass(frozen=True)
class CDF:
    """Keep each query block's best key blocks until their softmax reaches p, with the block that crosses it.

    Attributes:
        p: 0..1; 0 keeps one block, 1 all.
    """

    p: float

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise ValueError(f"CDF({self.p!r}): p must lie in 0..1")


Select: TypeAlias = TopR | CDF | BlockLists | Tensor


@torch.no_grad()
def select_blocks(
    q: Tensor, k: Tensor, grid_q: BlockGrid, grid_k: BlockGrid, select: Select, scale: float | None = None,
    backend: str = "auto",
) -> BlockLists:  # fmt: skip
    """Choose key blocks for each query block. Condition queries see condition keys only.

    Args:
        q: [B, heads, Nq, D], in block order.
        k: [B, heads, Nk, D], in block order.
        grid_q: the queries' blocks.
        grid_k: the keys' blocks.
        select: a rule; or a bool mask [(B, heads,) query blocks, key blocks], to which the condition's is added; or
            finished lists, which are returned as they are.
        scale: factor of the scores; default: 1 / sqrt(D).
        backend: auto, torch or triton.

    Raises:
        ValueError: for a mask that does not fit, or another kind of `select`.
    """
    if isinstance(select, BlockLists):
        return select
    seen = visible(grid_q, grid_k, q.device)
    if isinstance(select, Tensor):
        _check_mask(select, q, grid_q, grid_k)
        return BlockLists.of_mask(select.to(q.device) if seen is None else select.to(q.device) & seen)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    backend = choose_backend(backend, q)
    return choose(pooled(q, grid_q, backend), pooled(k, grid_k, backend), scale, seen, select, backend)


def visible(grid_q: BlockGrid, grid_k: BlockGrid, device: torch.device | str = "cpu") -> Tensor | None:
    """Return bool [query blocks, key blocks], which keys a condition leaves visible; None without one: all are."""
    if not grid_q.split:
        return None
    clean_q = grid_q.bounds(device)[:, 0, 1] <= grid_q.split
    clean_k = grid_k.bounds(device)[:, 0, 1] <= grid_k.split
    return clean_k | ~clean_q[:, None]


@torch.no_grad()
def pooled(x: Tensor, grid: BlockGrid, backend: str = "auto") -> Tensor:
    """Average the tokens of each block.

    Args:
        x: [B, heads, N, D], in block order.
        grid: its blocks.
        backend: auto, torch or triton. PyTorch takes some blocks at a time, since it copies to fp64 before it sums.

    Returns:
        [B, heads, blocks, D] of `means.means_dtype`.
    """
    if choose_backend(backend, x) == "triton":
        return block_means(x, grid.offsets(x.device))
    dtype = means_dtype(x)
    means = x.new_empty(*x.shape[:2], grid.count, x.shape[-1], dtype=dtype)
    for blocks, places in grid.by_size(x.device):
        step = max(1, chunk_bytes(x.device) // (8 * max(1, x[:, :, : places.shape[1]].numel())))
        for first in range(0, len(blocks), step):
            some = slice(first, first + step)
            means[:, :, blocks[some]] = x[:, :, places[some]].mean(3, dtype=dtype)
    return means


@torch.no_grad()
def choose(
    means_q: Tensor, means_k: Tensor, scale: float, seen: Tensor | None, select: TopR | CDF, backend: str
) -> BlockLists:
    """Apply a rule to pooled queries and keys.

    Args:
        means_q: [B, heads, query blocks, D], of `pooled`.
        means_k: [B, heads, key blocks, D].
        scale: factor of the scores.
        seen: bool [query blocks, key blocks], of `visible`.
        select: the rule.
        backend: torch or triton.
    """
    if isinstance(select, TopR):
        rule = "number" if isinstance(select.keep, int) else "share"
        return BlockLists(*best_blocks(means_q, means_k, scale, seen, rule, float(select.keep), backend))
    if isinstance(select, CDF):
        return BlockLists(*best_blocks(means_q, means_k, scale, seen, "cdf", float(select.p), backend)).narrowed()
    raise ValueError(f"select {select!r}: TopR, CDF, a bool mask of blocks or BlockLists is needed")


def _check_mask(mask: Tensor, q: Tensor, grid_q: BlockGrid, grid_k: BlockGrid) -> None:
    blocks = (grid_q.count, grid_k.count)
    pairs = zip(mask.shape[:-2], q.shape[:2], strict=False)
    fits = mask.ndim in {2, 4} and all(a in {1, b} for a, b in pairs)
    if mask.dtype != torch.bool or not fits or mask.shape[-2:] != blocks:
        raise ValueError(
            f"a block mask of shape {tuple(mask.shape)}, {mask.dtype}: bool {list(blocks)} is needed, "
            f"or [{q.shape[0]} or 1, {q.shape[1]} or 1, {blocks[0]}, {blocks[1]}]"
        )
