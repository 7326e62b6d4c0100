"""Block-sparse attention as PyTorch operators, which torch.compile, checkpointing and export see whole.

One operator per pass, each with its output shapes for tracing, and one for delta, which the backward pass over several
sets of keys (a ring's) computes once. Tokens are in block order. Delta and the backward pass: Dao, FlashAttention-2
(2023).
"""

from typing import Any

import torch
from torch import Tensor

from reelwright.kernels import reference
from reelwright.kernels.call import BlockSparseCall, acc_dtype, lse_dtype

TRITON_DTYPES = (torch.float16, torch.bfloat16, torch.float32)
TRITON_HEAD_DIM = 256
"""Largest D of the Triton kernels."""

_CALL = (
    "Tensor indices, Tensor counts, Tensor offsets_q, Tensor offsets_k, "
    "SymInt capacity_q, SymInt capacity_k, float scale, str backend"
)
"""`BlockSparseCall`'s fields in an operator's schema."""


@torch.library.custom_op(
    "reelwright::block_sparse", mutates_args=(), schema=f"(Tensor q, Tensor k, Tensor v, {_CALL}) -> (Tensor, Tensor)"
)
def block_sparse(q: Tensor, k: Tensor, v: Tensor, *fields: Any) -> tuple[Tensor, Tensor]:
    """Compute the forward pass.

    Args:
        q: [B, heads, Nq, D], in block order.
        k: [B, heads, Nk, D], in block order.
        v: [B, heads, Nk, D], in block order.
        fields: a `BlockSparseCall`'s.

    Returns:
        out [B, heads, Nq, D] and the log-sum-exp [B, heads, Nq] of `lse_dtype`.
    """
    call = BlockSparseCall(*fields).expanded(q)
    with torch.autocast(q.device.type, enabled=False):
        return _passes(call.backend, q).forward(q, k, v, call)


@torch.library.custom_op("reelwright::block_sparse_delta", mutates_args=())
def block_sparse_delta(grad: Tensor, out: Tensor, backend: str) -> Tensor:
    """Compute delta, the sums of grad · out over D.

    Args:
        grad: [B, heads, Nq, D], the gradient of out.
        out: [B, heads, Nq, D], over all keys.
        backend: auto, torch or triton.

    Returns:
        [B, heads, Nq] of `acc_dtype`.
    """
    return _passes(backend, out).delta(grad, out)


@torch.library.custom_op(
    "reelwright::block_sparse_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor delta, Tensor q, Tensor k, Tensor v, Tensor lse, "
    f"{_CALL}) -> (Tensor, Tensor, Tensor)",
)
def block_sparse_backward(
    grad: Tensor, delta: Tensor, q: Tensor, k: Tensor, v: Tensor, lse: Tensor, *fields: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the gradients of q, k and v.

    Args:
        grad: [B, heads, Nq, D], the gradient of out.
        delta: [B, heads, Nq], `block_sparse_delta` less the log-sum-exp's gradient.
        q: as in `block_sparse`, and so are k and v.
        k: [B, heads, Nk, D].
        v: [B, heads, Nk, D].
        lse: [B, heads, Nq], the log-sum-exp over all keys.
        fields: a `BlockSparseCall`'s.
    """
    call = BlockSparseCall(*fields).expanded(q)
    with torch.autocast(q.device.type, enabled=False):
        dq, dk, dv = _passes(call.backend, q).backward(grad, delta, q, k, v, lse, call)
    return dq.contiguous(), dk.contiguous(), dv.contiguous()


def choose_backend(backend: str, q: Tensor) -> str:
    """Choose "torch" or "triton".

    Args:
        backend: auto, torch or triton; auto is Triton for CUDA tensors of a type and a D that it has kernels for.
        q: the queries.

    Raises:
        ValueError: for an unknown backend, or Triton with a type or a D that it has no kernels for.
    """
    if backend not in {"auto", "torch", "triton"}:
        raise ValueError(f"backend {backend!r}: auto, torch or triton is needed")
    fits = q.dtype in TRITON_DTYPES and q.shape[-1] <= TRITON_HEAD_DIM
    if backend == "triton" and not fits:
        raise ValueError(
            f"the Triton kernels take fp16, bf16 and fp32 with D up to {TRITON_HEAD_DIM}, "
            f"not {q.dtype} with {q.shape[-1]}"
        )
    if backend != "auto":
        return backend
    return "triton" if q.is_cuda and fits and _has_triton() else "torch"


def _has_triton() -> bool:
    from importlib.util import find_spec

    return find_spec("triton") is not None


def _passes(backend: str, q: Tensor) -> Any:
    """Return the module that has `forward`, `delta` and `backward`."""
    if choose_backend(backend, q) == "torch":
        return reference
    from reelwright.kernels.triton import passes

    return passes


@block_sparse.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *fields: Any) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), q.new_empty(q.shape[:3], dtype=lse_dtype(q.dtype))


@block_sparse_delta.register_fake
def _(grad: Tensor, out: Tensor, backend: str) -> Tensor:
    return out.new_empty(out.shape[:3], dtype=acc_dtype(out.dtype))


@block_sparse_backward.register_fake
def _(grad: Tensor, delta: Tensor, q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, *fields = inputs
    call = BlockSparseCall(*fields)
    ctx.save_for_backward(q, k, v, *call[:4], *output)
    ctx.sizes_and_options = call[4:]
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, grad_lse: Tensor | None) -> tuple[Tensor | None, ...]:
    q, k, v, *tensors, out, lse = ctx.saved_tensors
    no_gradients = (None,) * len(BlockSparseCall._fields)
    if grad is None and grad_lse is None:
        return None, None, None, *no_gradients
    call = BlockSparseCall(*tensors, *ctx.sizes_and_options)
    grad = torch.zeros_like(out) if grad is None else grad
    delta = block_sparse_delta(grad, out, call.backend)
    delta = delta if grad_lse is None else (delta - grad_lse).to(delta.dtype)
    return *block_sparse_backward(grad, delta, q, k, v, lse, *call), *no_gradients


block_sparse.register_autograd(_backward, setup_context=_save_for_backward)
