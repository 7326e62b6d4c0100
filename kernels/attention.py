"""3D block-sparse attention: each block of queries attends to the blocks of keys that are chosen for it."""

from typing import Any, Literal, overload

import torch
from torch import Tensor

from reelwright.kernels.blocks import BlockGrid, Triple, block_grids
from reelwright.kernels.lists import BlockLists
from reelwright.kernels.operator import block_sparse, choose_backend
from reelwright.kernels.selection import Select, select_blocks

Block = Triple | tuple[Triple, Triple]


@overload
def block_sparse_attention(
    q: Tensor, k: Tensor, v: Tensor, *, grid_q: Triple, grid_k: Triple, block: Block = ..., select: Select,
    cond_frames: int = ..., scale: float | None = ..., in_block_order: bool = ..., return_lse: Literal[False] = ...,
    backend: str = ...,
) -> Tensor: ...  # fmt: skip
@overload
def block_sparse_attention(
    q: Tensor, k: Tensor, v: Tensor, *, grid_q: Triple, grid_k: Triple, block: Block = ..., select: Select,
    cond_frames: int = ..., scale: float | None = ..., in_block_order: bool = ..., return_lse: Literal[True],
    backend: str = ...,
) -> tuple[Tensor, Tensor]: ...  # fmt: skip


def block_sparse_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    grid_q: Triple,
    grid_k: Triple,
    block: Block = (4, 4, 4),
    select: Select,
    cond_frames: int = 0,
    scale: float | None = None,
    in_block_order: bool = False,
    return_lse: bool = False,
    backend: str = "auto",
) -> Any:
    """q [B, heads, Nq, D], k and v [B, heads, Nk, D] -> out [B, heads, Nq, D], with return_lse also the log-sum-exp
    [B, heads, Nq] in fp32 (fp64 of fp64).

    grid_q, grid_k: (frames, rows, columns) of tokens; the queries' frames are the last of the keys'. block: (t, h, w)
    tokens, or the queries' and the keys'. select: TopR, CDF, a bool mask of blocks or BlockLists (taken as they are).
    cond_frames: of the keys' first frames, the clean ones: they share no block with the others, and queries in them see
    no other keys. scale: of the scores, 1 / sqrt(D) if not given. in_block_order: tokens come and go as
    `BlockGrid.order` puts them, not in (t, h, w) order. backend: auto, torch or triton.

    ValueError for what does not fit together. Gradients flow to q, k and v, not through the selection.
    """
    blocks_q, blocks_k = block_grids(grid_q, grid_k, block, cond_frames)
    _check(q, k, v, blocks_q, blocks_k)
    choose_backend(backend, q)
    if not in_block_order:
        q, k, v = put_in_order(q, blocks_q), put_in_order(k, blocks_k), put_in_order(v, blocks_k)
    q, k, v = autocast_types(q, k, v)
    scale = q.shape[-1] ** -0.5 if scale is None else float(scale)
    lists = select_blocks(q, k, blocks_q, blocks_k, select, scale, backend)
    _check_lists(lists, q, blocks_q)
    out, lse = attend(q, k, v, lists, blocks_q, blocks_k, scale=scale, backend=backend)
    out = out if in_block_order else put_back(out, blocks_q)
    if not return_lse:
        return out
    lse = lse.to(torch.promote_types(q.dtype, torch.float32))
    return out, lse if in_block_order else put_back(lse, blocks_q)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lists: BlockLists,
    blocks_q: BlockGrid,
    blocks_k: BlockGrid,
    *,
    scale: float,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """The attention alone: tokens in block order and lists -> out, log-sum-exp (fp64 of fp32, for merging parts)."""
    offsets = blocks_q.offsets(q.device), blocks_k.offsets(q.device)
    sizes = blocks_q.capacity, blocks_k.capacity
    return block_sparse(q, k, v, lists.indices, lists.counts, *offsets, *sizes, scale, backend)


def put_in_order(x: Tensor, grid: BlockGrid, dim: int = 2) -> Tensor:
    """Tokens along `dim` of x from (t, h, w) order into block order."""
    return _Permuted.apply(x, grid.order(x.device), grid.inverse(x.device), dim)


def put_back(x: Tensor, grid: BlockGrid, dim: int = 2) -> Tensor:
    """Tokens along `dim` of x from block order into (t, h, w) order."""
    return _Permuted.apply(x, grid.inverse(x.device), grid.order(x.device), dim)


class _Permuted(torch.autograd.Function):
    """A gather whose gradient is a gather too; index_select's adds, one by one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, inverse: Tensor, dim: int) -> Tensor:
        ctx.save_for_backward(order, inverse)
        ctx.dim = dim
        return x.index_select(dim, order)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        order, inverse = ctx.saved_tensors
        return _Permuted.apply(grad, inverse, order, ctx.dim), None, None, None


def autocast_types(*tensors: Tensor) -> tuple[Tensor, ...]:
    """In autocast's type, as its own attention: an operator of ours is unknown to it."""
    kind = tensors[0].device.type
    if not torch.is_autocast_enabled(kind) or tensors[0].dtype == torch.float64:
        return tensors
    return tuple(x.to(torch.get_autocast_dtype(kind)) for x in tensors)


def _check(q: Tensor, k: Tensor, v: Tensor, blocks_q: BlockGrid, blocks_k: BlockGrid) -> None:
    for name, x, grid in (("q", q, blocks_q), ("k", k, blocks_k), ("v", v, blocks_k)):
        if x.ndim != 4 or x.shape[2] != grid.tokens:
            raise ValueError(
                f"{name} of shape {tuple(x.shape)} does not fit grid {grid.grid}: "
                f"[B, heads, {grid.tokens}, D] is needed"
            )
        if x.shape[:2] != q.shape[:2] or x.shape[-1] != q.shape[-1]:
            raise ValueError(f"q {tuple(q.shape)} and {name} {tuple(x.shape)} differ in samples, heads or D")
        if x.dtype != q.dtype or x.device != q.device:
            raise ValueError(f"q is {q.dtype} on {q.device}, {name} {x.dtype} on {x.device}: they must be alike")
    if not q.is_floating_point() or not q.shape[-1]:
        raise ValueError(f"q of type {q.dtype} and D {q.shape[-1]}: floating-point numbers and D from 1 are needed")


def _check_lists(lists: BlockLists, q: Tensor, blocks_q: BlockGrid) -> None:
    for name, x in (("indices", lists.indices), ("counts", lists.counts)):
        if x.dtype != torch.int32 or x.device != q.device:
            raise ValueError(f"lists: {name} are {x.dtype} on {x.device}; q is on {q.device}: int32 there is needed")
    rows = lists.indices.shape[:3]
    fits = all(a in {1, b} for a, b in zip(rows[:2], q.shape[:2], strict=True)) and rows[2] == blocks_q.count
    if not fits or lists.counts.shape != rows:
        raise ValueError(
            f"lists of shape {tuple(lists.indices.shape)}, counts {tuple(lists.counts.shape)}: "
            f"[{q.shape[0]} or 1, {q.shape[1]} or 1, {blocks_q.count}, R] is needed, and counts without R"
        )
