"""3D block-sparse attention: each block of queries attends to the blocks of keys that are chosen for it."""

from typing import Any, Literal, overload

import torch
from torch import Tensor

from reelwright.kernels.blocks import BlockGrid, Triple, block_grids
from reelwright.kernels.call import BlockSparseCall, acc_dtype
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
    """Attend from each block of queries to the blocks of keys that are chosen for it.

    Gradients flow to q, k and v, not through the selection.

    Args:
        q: [B, heads, Nq, D].
        k: [B, heads, Nk, D].
        v: [B, heads, Nk, D].
        grid_q: (frames, rows, columns) of query tokens; its frames are the last of the keys'.
        grid_k: (frames, rows, columns) of key tokens.
        block: (t, h, w) tokens of a block, or the queries' and the keys'.
        select: TopR, CDF, a bool mask of blocks, or BlockLists, which are taken as they are.
        cond_frames: how many of the keys' first frames are clean: they share no block with the others, and queries in
            them see no other keys.
        scale: factor of the scores; default: 1 / sqrt(D).
        in_block_order: tokens come and go in `BlockGrid.order`, not in (t, h, w) order.
        return_lse: return the log-sum-exp too.
        backend: auto, torch or triton.

    Returns:
        out [B, heads, Nq, D]; with return_lse also the log-sum-exp [B, heads, Nq] in fp32 (fp64 for fp64).

    Raises:
        ValueError: for sizes, types or options that do not fit together.
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
    out, lse = attend(q, k, v, BlockSparseCall.of(lists, blocks_q, blocks_k, scale=scale, backend=backend))
    out = out if in_block_order else put_back(out, blocks_q)
    if not return_lse:
        return out
    lse = lse.to(acc_dtype(q.dtype))
    return out, lse if in_block_order else put_back(lse, blocks_q)


def attend(q: Tensor, k: Tensor, v: Tensor, call: BlockSparseCall) -> tuple[Tensor, Tensor]:
    """Compute the attention alone, from tokens in block order and finished lists.

    Args:
        q: [B, heads, Nq, D].
        k: [B, heads, Nk, D].
        v: [B, heads, Nk, D].
        call: lists and blocks.

    Returns:
        out [B, heads, Nq, D] and the log-sum-exp [B, heads, Nq], in fp64 for fp32, so that parts can be merged.
    """
    return block_sparse(q, k, v, *call)


def put_in_order(x: Tensor, grid: BlockGrid, dim: int = 2) -> Tensor:
    """Permute the tokens along `dim` of x from (t, h, w) order into block order."""
    return permuted(x, grid.order(x.device), grid.inverse(x.device), dim)


def put_back(x: Tensor, grid: BlockGrid, dim: int = 2) -> Tensor:
    """Permute the tokens along `dim` of x from block order into (t, h, w) order."""
    return permuted(x, grid.inverse(x.device), grid.order(x.device), dim)


def permuted(x: Tensor, order: Tensor, inverse: Tensor, dim: int) -> Tensor:
    """Permute along `dim` of x: the result's i-th is x's order[i]-th. inverse: order's, for the gradient."""
    return _Permuted.apply(x, order, inverse, dim)


class _Permuted(torch.autograd.Function):
    """Gather along a dimension, with a gather as gradient too; the gradient of index_select adds one by one."""

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
    """Cast to autocast's type, where it is on: autocast knows PyTorch's attention, but not our operators."""
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device) or tensors[0].dtype == torch.float64:
        return tensors
    return tuple(x.to(torch.get_autocast_dtype(device)) for x in tensors)


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
