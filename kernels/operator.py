"""The computation as operators of PyTorch, with shapes for tracing and gradients: one for each pass, and one for what a
backward pass over several sets of keys needs once.

Being operators, torch.compile, checkpointing and export see them whole. All tokens are in block order.
"""

from typing import Any

import torch
from torch import Tensor

from reelwright.kernels import reference as gathered

TRITON_TYPES = (torch.float16, torch.bfloat16, torch.float32)
TRITON_DIM = 256


@torch.library.custom_op("reelwright::block_sparse", mutates_args=())
def block_sparse(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    indices: Tensor,
    counts: Tensor,
    offsets_q: Tensor,
    offsets_k: Tensor,
    capacity_q: int,
    capacity_k: int,
    scale: float,
    backend: str,
) -> tuple[Tensor, Tensor]:
    """q [B, heads, Nq, D], k and v [B, heads, Nk, D], the rest as in `gathered.Plan` -> out, log-sum-exp
    [B, heads, Nq] in fp32, of fp32 and fp64 in fp64."""
    plan = _plan(q, indices, counts, offsets_q, offsets_k, capacity_q, capacity_k, scale)
    with torch.autocast(q.device.type, enabled=False):
        return _passes(backend, q).forward(q, k, v, plan)


@torch.library.custom_op("reelwright::block_sparse_levels", mutates_args=())
def block_sparse_levels(grad: Tensor, out: Tensor, backend: str) -> Tensor:
    """[B, heads, Nq], fp32 (fp64 of fp64): the sums of grad · out over D; out of all keys."""
    return _passes(backend, out).levels(grad, out)


@torch.library.custom_op("reelwright::block_sparse_backward", mutates_args=())
def block_sparse_backward(
    grad: Tensor,
    level: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lse: Tensor,
    indices: Tensor,
    counts: Tensor,
    offsets_q: Tensor,
    offsets_k: Tensor,
    capacity_q: int,
    capacity_k: int,
    scale: float,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v; `lse` is the forward's, `level` its `levels` less the log-sum-exp's gradient."""
    plan = _plan(q, indices, counts, offsets_q, offsets_k, capacity_q, capacity_k, scale)
    with torch.autocast(q.device.type, enabled=False):
        grads = _passes(backend, q).backward(grad, level, q, k, v, lse, plan)
    return grads[0].contiguous(), grads[1].contiguous(), grads[2].contiguous()


def choose_backend(backend: str, q: Tensor) -> str:
    """"torch" or "triton"; "auto" is Triton for CUDA tensors of types and head dims it has kernels for."""
    if backend not in {"auto", "torch", "triton"}:
        raise ValueError(f"backend {backend!r}: auto, torch or triton is needed")
    fits = q.dtype in TRITON_TYPES and q.shape[-1] <= TRITON_DIM
    if backend == "triton" and not fits:
        raise ValueError(
            f"the Triton kernels take fp16, bf16 and fp32 with D up to {TRITON_DIM}, not {q.dtype} with {q.shape[-1]}"
        )
    if backend != "auto":
        return backend
    return "triton" if q.is_cuda and fits and _has_triton() else "torch"


def _has_triton() -> bool:
    from importlib.util import find_spec

    return find_spec("triton") is not None


def _passes(backend: str, q: Tensor) -> Any:
    if choose_backend(backend, q) == "torch":
        return gathered
    from reelwright.kernels.triton import passes as triton_passes

    return triton_passes


def _plan(
    q: Tensor, indices: Tensor, counts: Tensor, offsets_q: Tensor, offsets_k: Tensor, *rest: Any
) -> gathered.Plan:
    """Lists that are one for all samples or heads are spread over them, without a copy."""
    indices = indices.expand(*q.shape[:2], -1, -1)
    return gathered.Plan(indices, counts.expand(*q.shape[:2], -1), offsets_q, offsets_k, *rest)


@block_sparse.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), q.new_empty(q.shape[:3], dtype=gathered.lse_type(q.dtype))


@block_sparse_levels.register_fake
def _(grad: Tensor, out: Tensor, backend: str) -> Tensor:
    return out.new_empty(out.shape[:3], dtype=torch.promote_types(out.dtype, torch.float32))


@block_sparse_backward.register_fake
def _(grad: Tensor, level: Tensor, q: Tensor, k: Tensor, v: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:7], *output)
    ctx.rest = inputs[7:]
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, grad: Tensor | None, grad_lse: Tensor | None) -> tuple[Tensor | None, ...]:
    q, k, v, indices, counts, offsets_q, offsets_k, out, lse = ctx.saved_tensors
    nothing: tuple[None, ...] = (None,) * 8
    if grad is None and grad_lse is None:
        return None, None, None, *nothing
    grad = torch.zeros_like(out) if grad is None else grad
    level = block_sparse_levels(grad, out, ctx.rest[-1])
    level = level if grad_lse is None else (level - grad_lse).to(level.dtype)
    lists = (indices, counts, offsets_q, offsets_k)
    return *block_sparse_backward(grad, level, q, k, v, lse, *lists, *ctx.rest), *nothing


block_sparse.register_autograd(_gradients, setup_context=_keep)
