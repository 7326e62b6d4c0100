"""Launches the Triton kernels: the same functions as `reelwright.kernels.reference`, for fp16, bf16 and fp32.

fp32 is for those who want its precision: with scores too large for it, it is left to `gathered`, which knows fp64. So
are scales that are not above 0, which nobody trains with.
"""

import math
from typing import Any

import torch
import triton
from torch import Tensor

from reelwright.kernels import reference as gathered
from reelwright.kernels.lists import transpose_lists
from reelwright.kernels.reference import Plan, lse_type, too_large
from reelwright.kernels.triton import attention as triton_kernels
from reelwright.kernels.triton.tiles import Tiles, tiles

LOG2_E = math.log2(math.e)
ROWS = 32
"""Rows of a program of `levels`: it is bound by memory, and needs many."""


def forward(q: Tensor, k: Tensor, v: Tensor, plan: Plan, choice: Tiles | None = None) -> tuple[Tensor, Tensor]:
    """-> out [B, heads, Nq, D], log-sum-exp [B, heads, Nq] of `lse_type`; 0 and -inf where a row has no blocks."""
    if plan.scale <= 0:
        return gathered.forward(q, k, v, plan)
    q, k, v = (x.contiguous() for x in (q, k, v))
    out, lse = torch.empty_like(q), q.new_empty(q.shape[:3], dtype=torch.float32)
    choice = choice or _tiles("forward", q, k, plan)
    given = {"q": q, "k": k, "v": v, "out": out, "lse": lse, "scale": plan.scale * LOG2_E}
    if q.numel():
        with torch.cuda.device_of(q):  # Triton launches on the current device, whatever its tensors' is
            triton_kernels.forward[(plan.counts.numel() * _parts(plan.capacity_q, choice.q),)](
                **given, **_lists(plan), **_shared(q, k, plan, choice)
            )
    return gathered.forward(q, k, v, plan) if too_large(lse, q) else (out, lse.to(lse_type(q.dtype)))


def levels(grad: Tensor, out: Tensor) -> Tensor:
    """fp32 [B, heads, Nq]: the sums of grad · out over D."""
    grad, out = grad.contiguous(), out.contiguous()
    level = out.new_empty(out.shape[:3], dtype=torch.float32)
    if out.numel():
        rows, dim = level.numel(), out.shape[-1]
        with torch.cuda.device_of(out):
            triton_kernels.levels[(-(-rows // ROWS),)](
                grad=grad, out=out, level=level, n=rows, TILE=ROWS, D=dim, DIM=triton.next_power_of_2(dim)
            )
    return level


def backward(
    grad: Tensor, level: Tensor, q: Tensor, k: Tensor, v: Tensor, lse: Tensor, plan: Plan,
    choices: tuple[Tiles, Tiles] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of q, k and v: dq over the lists, dk and dv over their transpose. level: as of `gathered.backward`."""
    if plan.scale <= 0 or too_large(lse, q):
        return gathered.backward(grad, level, q, k, v, lse, plan)
    q, k, v, grad, level = (x.contiguous() for x in (q, k, v, grad, level))
    dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
    if not q.numel():
        return dq, dk, dv
    log = (lse.float() * LOG2_E).masked_fill_(lse == -torch.inf, 0).contiguous()
    of_q, of_k = choices or (_tiles("dq", q, k, plan), _tiles("dkdv", q, k, plan))
    given = {"q": q, "k": k, "v": v, "grad": grad, "lse": log, "level": level}
    given |= {"scale": plan.scale * LOG2_E, "back": plan.scale}
    heads, key_blocks = q.shape[0] * q.shape[1], plan.offsets_k.numel() - 1
    with torch.cuda.device_of(q):
        triton_kernels.backward_queries[(plan.counts.numel() * _parts(plan.capacity_q, of_q.q),)](
            dq=dq, **given, **_lists(plan), **_shared(q, k, plan, of_q)
        )
        triton_kernels.backward_keys[(heads * key_blocks * _parts(plan.capacity_k, of_k.k),)](
            dk=dk, dv=dv, **given, **_transposed(plan), **_shared(q, k, plan, of_k)
        )
    return dq, dk, dv


def _lists(plan: Plan) -> dict[str, Any]:
    indices, counts = plan.indices.contiguous(), plan.counts.contiguous()
    return {"indices": indices, "counts": counts, "list_stride": indices.shape[-1], "list_rows": counts.shape[-1]}


def _transposed(plan: Plan) -> dict[str, Any]:
    key_blocks = plan.offsets_k.numel() - 1
    queries_of, starts = transpose_lists(plan.indices, plan.counts, key_blocks)
    return {
        "queries_of": queries_of, "starts": starts, "list_length": queries_of.shape[-1], "blocks_k": key_blocks,
    }  # fmt: skip


def _shared(q: Tensor, k: Tensor, plan: Plan, choice: Tiles) -> dict[str, Any]:
    """What all kernels but `levels` are given."""
    sizes = plan.capacity_q, plan.capacity_k
    given = {"offsets_q": plan.offsets_q, "offsets_k": plan.offsets_k, "nq": q.shape[2], "nk": k.shape[2]}
    return given | constants(q.shape[-1], *sizes, choice, full=_full(q, k, plan))


def _tiles(kernel: str, q: Tensor, k: Tensor, plan: Plan) -> Tiles:
    return tiles(kernel, q, plan.capacity_q, plan.capacity_k, full=all(_full(q, k, plan)))


def _full(q: Tensor, k: Tensor, plan: Plan) -> tuple[bool, bool]:
    """Whether all blocks of queries, and of keys, have as many tokens as the largest."""
    return (
        (plan.offsets_q.numel() - 1) * plan.capacity_q == q.shape[2],
        (plan.offsets_k.numel() - 1) * plan.capacity_k == k.shape[2],
    )


def constants(dim: int, capacity_q: int, capacity_k: int, choice: Tiles, *, full: tuple[bool, bool]) -> dict[str, Any]:
    """What a kernel is compiled for: its constants, and the compiler's options. full: blocks of queries, of keys."""
    return {
        "TILE_Q": choice.q,
        "TILE_K": choice.k,
        "PARTS_Q": _parts(capacity_q, choice.q),
        "PARTS_K": _parts(capacity_k, choice.k),
        "FULL_Q": full[0] and capacity_q % choice.q == 0,
        "FULL_K": full[1] and capacity_k % choice.k == 0,
        "D": dim,
        "DIM": max(16, triton.next_power_of_2(dim)),
        "PRECISION": "ieee",  # fp32 products in TF32 miss the promised error by far; halves are not touched by it
        "num_warps": choice.warps,
        "num_stages": choice.stages,
        "enable_fp_fusion": True,
    }


def _parts(capacity: int, tile: int) -> int:
    return -(-capacity // tile)
