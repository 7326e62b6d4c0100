"""Launches the Triton kernels: the same two functions as `kernels.gathered`, for fp16, bf16 and fp32.

fp32 is for those who want its precision: with scores too large for it, it is left to `gathered`, which knows fp64.
"""

import math
from typing import Any

import torch
import triton
from torch import Tensor

from kernels import gathered, triton_kernels
from kernels.gathered import Plan, lse_type, too_large
from kernels.lists import transpose_lists
from kernels.tuning import Tiles, tiles

LOG2_E = math.log2(math.e)


def forward(q: Tensor, k: Tensor, v: Tensor, plan: Plan, choice: Tiles | None = None) -> tuple[Tensor, Tensor]:
    """-> out [B, heads, Nq, D], log-sum-exp [B, heads, Nq] of `lse_type`; 0 and -inf where a row has no blocks."""
    q, k, v = (x.contiguous() for x in (q, k, v))
    out, lse = torch.empty_like(q), q.new_empty(q.shape[:3], dtype=torch.float32)
    if not q.numel():
        return out, lse.to(lse_type(q.dtype))
    choice = choice or tiles("forward", q, plan.capacity_q, plan.capacity_k)
    indices, counts = plan.indices.contiguous(), plan.counts.contiguous()
    parts_q, grid = _parts(plan.capacity_q, choice.q), q.shape[0] * q.shape[1]
    rows = counts.shape[-1]
    triton_kernels.forward[(rows * parts_q, grid)](
        q, k, v, out, lse, indices, counts, plan.offsets_q, plan.offsets_k, q.shape[-1], k.shape[-1], indices.shape[-1],
        rows, q.shape[2], k.shape[2], plan.scale * LOG2_E,
        EVEN=_even(plan.offsets_k, plan.capacity_k, k.shape[2], choice.k), **_constants(q, plan, choice),
    )  # fmt: skip
    return gathered.forward(q, k, v, plan) if too_large(lse, q) else (out, lse.to(lse_type(q.dtype)))


def backward(
    grad: Tensor, grad_lse: Tensor | None, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, plan: Plan,
    choices: tuple[Tiles, Tiles] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of q, k and v: dq over the lists, dk and dv over their transpose."""
    q, k, v, grad = (x.contiguous() for x in (q, k, v, grad))
    dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
    if not q.numel():
        return dq, dk, dv
    if too_large(lse, q):
        return gathered.backward(grad, grad_lse, q, k, v, out, lse, plan)
    mean = (grad.float() * out.float()).sum(-1)
    mean = (mean if grad_lse is None else mean - grad_lse).float().contiguous()
    log = (lse * LOG2_E).masked_fill(lse == -torch.inf, 0).float().contiguous()
    of_q, of_k = choices or tuple(tiles(name, q, plan.capacity_q, plan.capacity_k) for name in ("dq", "dkdv"))
    indices, counts = plan.indices.contiguous(), plan.counts.contiguous()
    rows, key_blocks, heads = counts.shape[-1], plan.offsets_k.numel() - 1, q.shape[0] * q.shape[1]
    offsets, strides = (plan.offsets_q, plan.offsets_k), (q.shape[-1], k.shape[-1])
    sizes, scales = (q.shape[2], k.shape[2]), (plan.scale * LOG2_E, plan.scale)
    triton_kernels.backward_queries[(rows * _parts(plan.capacity_q, of_q.q), heads)](
        q, k, v, grad, log, mean, dq, indices, counts, *offsets, *strides, indices.shape[-1], rows, *sizes, *scales,
        **_constants(q, plan, of_q),
    )  # fmt: skip
    queries_of, starts = transpose_lists(indices, counts, key_blocks)
    triton_kernels.backward_keys[(key_blocks * _parts(plan.capacity_k, of_k.k), heads)](
        q, k, v, grad, log, mean, dk, dv, queries_of, starts, *offsets, *strides, queries_of.shape[-1], *sizes,
        key_blocks, *scales, **_constants(q, plan, of_k),
    )  # fmt: skip
    return dq, dk, dv


def _constants(q: Tensor, plan: Plan, choice: Tiles) -> dict[str, Any]:
    return constants(q.shape[-1], plan.capacity_q, plan.capacity_k, choice)


def constants(dim: int, capacity_q: int, capacity_k: int, choice: Tiles) -> dict[str, Any]:
    """What a kernel is compiled for: its constants, and the compiler's options."""
    return {
        "TILE_Q": choice.q,
        "TILE_K": choice.k,
        "PARTS_Q": _parts(capacity_q, choice.q),
        "PARTS_K": _parts(capacity_k, choice.k),
        "D": dim,
        "DIM": max(16, triton.next_power_of_2(dim)),
        "PRECISION": "ieee",  # fp32 products in TF32 miss the promised error by far; halves are not touched by it
        "num_warps": choice.warps,
        "num_stages": choice.stages,
        "enable_fp_fusion": True,
    }


def _parts(capacity: int, tile: int) -> int:
    return -(-capacity // tile)


def _even(offsets: Tensor, capacity: int, tokens: int, tile: int) -> bool:
    return (offsets.numel() - 1) * capacity == tokens and capacity % tile == 0
