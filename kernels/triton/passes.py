"""Launch the Triton kernels: the functions of `reelwright.kernels.reference`, for fp16, bf16 and fp32.

fp32 is chosen for its precision: problems with scores too large for it go to `reference`, which computes them in fp64.
Scales of 0 and below, which no training uses, go there too.
"""

import math
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from reelwright.kernels import reference
from reelwright.kernels.call import BlockSparseCall, lse_dtype
from reelwright.kernels.lists import transpose_lists
from reelwright.kernels.reference import too_large
from reelwright.kernels.triton import attention
from reelwright.kernels.triton.tiles import Tiles, choose_tiles

LOG2_E = math.log2(math.e)
DELTA_ROWS = 32
"""Rows per program of `delta`: it is bound by memory, and needs many programs."""


def forward(
    q: Tensor, k: Tensor, v: Tensor, call: BlockSparseCall, tiles: Tiles | None = None
) -> tuple[Tensor, Tensor]:
    """Compute attention, as `reference.forward`; tiles: other than the chosen ones, for tuning."""
    if call.scale <= 0:
        return reference.forward(q, k, v, call)
    q, k, v = (x.contiguous() for x in (q, k, v))
    out, lse = torch.empty_like(q), q.new_empty(q.shape[:3], dtype=torch.float32)
    tiles = tiles or _tiles("forward", q, k, call)
    if q.numel():
        grid = (call.counts.numel() * _tiles_per_block(call.capacity_q, tiles.m),)
        with torch.cuda.device_of(q):  # Triton launches on the current device, whatever its tensors' is
            attention.forward[grid](
                q_ptr=q, k_ptr=k, v_ptr=v, out_ptr=out, lse_ptr=lse, qk_scale=call.scale * LOG2_E,
                **_list_arguments(call), **_shape_arguments(q, k, call, tiles),
            )  # fmt: skip
    return reference.forward(q, k, v, call) if too_large(lse, q) else (out, lse.to(lse_dtype(q.dtype)))


def delta(grad: Tensor, out: Tensor) -> Tensor:
    """Sum grad · out over D: [B, heads, Nq, D] twice -> fp32 [B, heads, Nq]."""
    grad, out = grad.contiguous(), out.contiguous()
    sums = out.new_empty(out.shape[:3], dtype=torch.float32)
    if out.numel():
        rows, dim = sums.numel(), out.shape[-1]
        with torch.cuda.device_of(out):
            attention.delta[(-(-rows // DELTA_ROWS),)](
                grad_ptr=grad, out_ptr=out, delta_ptr=sums, rows=rows,
                TILE_M=DELTA_ROWS, HEAD_DIM=dim, PADDED_DIM=triton.next_power_of_2(dim),
            )  # fmt: skip
    return sums


def backward(
    grad: Tensor, delta: Tensor, q: Tensor, k: Tensor, v: Tensor, lse: Tensor, call: BlockSparseCall
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the gradients of q, k and v, as `reference.backward`."""
    if call.scale <= 0 or too_large(lse, q):
        return reference.backward(grad, delta, q, k, v, lse, call)
    inputs = BackwardInputs.of(grad, delta, q, k, v, lse)
    return backward_dq(inputs, call), *backward_dkdv(inputs, call)


class BackwardInputs(NamedTuple):
    """Tensors that both backward kernels read, contiguous: q, k, v, grad [B, heads, N, D], lse, delta [B, heads, Nq].

    lse is base 2, and 0 for rows that see nothing.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    grad: Tensor
    lse: Tensor
    delta: Tensor

    @classmethod
    def of(cls, grad: Tensor, delta: Tensor, q: Tensor, k: Tensor, v: Tensor, lse: Tensor) -> "BackwardInputs":
        """Convert `reference.backward`'s."""
        base_2 = (lse.float() * LOG2_E).masked_fill_(lse == -torch.inf, 0)
        return cls(*(x.contiguous() for x in (q, k, v, grad, base_2, delta)))

    def arguments(self, call: BlockSparseCall) -> dict[str, Any]:
        """Name them as the kernels do, with the scales."""
        pointers = {f"{name}_ptr": x for name, x in self._asdict().items()}
        return pointers | {"qk_scale": call.scale * LOG2_E, "softmax_scale": call.scale}


def backward_dq(inputs: BackwardInputs, call: BlockSparseCall, tiles: Tiles | None = None) -> Tensor:
    """Compute dq over the lists; tiles: other than the chosen ones, for tuning."""
    q, k = inputs.q, inputs.k
    dq = torch.empty_like(q)
    tiles = tiles or _tiles("dq", q, k, call)
    if q.numel():
        grid = (call.counts.numel() * _tiles_per_block(call.capacity_q, tiles.m),)
        with torch.cuda.device_of(q):
            attention.backward_dq[grid](
                dq_ptr=dq, **inputs.arguments(call), **_list_arguments(call), **_shape_arguments(q, k, call, tiles)
            )
    return dq


def backward_dkdv(inputs: BackwardInputs, call: BlockSparseCall, tiles: Tiles | None = None) -> tuple[Tensor, Tensor]:
    """Compute dk and dv over the lists' transpose; tiles: other than the chosen ones, for tuning."""
    q, k = inputs.q, inputs.k
    dk, dv = torch.empty_like(k), torch.empty_like(inputs.v)
    tiles = tiles or _tiles("dkdv", q, k, call)
    if q.numel():
        heads = q.shape[0] * q.shape[1]
        grid = (heads * call.key_blocks * _tiles_per_block(call.capacity_k, tiles.n),)
        with torch.cuda.device_of(q):
            attention.backward_dkdv[grid](
                dk_ptr=dk, dv_ptr=dv, **inputs.arguments(call),
                **_transposed_arguments(call), **_shape_arguments(q, k, call, tiles),
            )  # fmt: skip
    return dk, dv


def _list_arguments(call: BlockSparseCall) -> dict[str, Any]:
    indices, counts = call.indices.contiguous(), call.counts.contiguous()
    return {
        "indices_ptr": indices, "counts_ptr": counts, "list_stride": indices.shape[-1], "list_rows": counts.shape[-1],
    }  # fmt: skip


def _transposed_arguments(call: BlockSparseCall) -> dict[str, Any]:
    queries, starts = transpose_lists(call.indices, call.counts, call.key_blocks)
    return {
        "queries_ptr": queries, "starts_ptr": starts, "list_length": queries.shape[-1], "blocks_k": call.key_blocks,
    }  # fmt: skip


def _shape_arguments(q: Tensor, k: Tensor, call: BlockSparseCall, tiles: Tiles) -> dict[str, Any]:
    """Return the arguments that all kernels but `delta` share: where blocks lie, and the constants."""
    given = {
        "offsets_q_ptr": call.offsets_q, "offsets_k_ptr": call.offsets_k,
        "seqlen_q": q.shape[2], "seqlen_k": k.shape[2],
    }  # fmt: skip
    return given | constants(q.shape[-1], (call.capacity_q, call.capacity_k), tiles, full=_full(q, k, call))


def _tiles(kernel: str, q: Tensor, k: Tensor, call: BlockSparseCall) -> Tiles:
    return choose_tiles(kernel, q, call.capacity_q, call.capacity_k, full=all(_full(q, k, call)))


def _full(q: Tensor, k: Tensor, call: BlockSparseCall) -> tuple[bool, bool]:
    """Tell whether all blocks of queries, and of keys, have as many tokens as the largest."""
    return (
        (call.offsets_q.numel() - 1) * call.capacity_q == q.shape[2],
        (call.offsets_k.numel() - 1) * call.capacity_k == k.shape[2],
    )


def constants(dim: int, capacities: tuple[int, int], tiles: Tiles, *, full: tuple[bool, bool]) -> dict[str, Any]:
    """Return a kernel's compile-time constants, and the compiler's options.

    Args:
        dim: numbers per head.
        capacities: tokens of the largest query block, and of the largest key block.
        tiles: their sizes, warps and stages.
        full: whether all query blocks, and all key blocks, have as many tokens as the largest.
    """
    return {
        "TILE_M": tiles.m,
        "TILE_N": tiles.n,
        "TILES_M": _tiles_per_block(capacities[0], tiles.m),
        "TILES_N": _tiles_per_block(capacities[1], tiles.n),
        "FULL_M": full[0] and capacities[0] % tiles.m == 0,
        "FULL_N": full[1] and capacities[1] % tiles.n == 0,
        "HEAD_DIM": dim,
        "PADDED_DIM": max(16, triton.next_power_of_2(dim)),
        "PRECISION": "ieee",  # fp32 products in TF32 miss the promised error by far; halves are not touched by it
        "num_warps": tiles.warps,
        "num_stages": tiles.stages,
        "enable_fp_fusion": True,
    }


def _tiles_per_block(capacity: int, tile: int) -> int:
    return -(-capacity // tile)
