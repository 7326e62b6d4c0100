"""Floating-point operations of PyTorch's operators, by the shapes of their tensors: a multiply-add is two."""

import math
from collections.abc import Callable
from typing import Any

BACKWARD = 2.5
"""A fused attention's backward pass over its forward: five products in place of two, as scores are computed again."""


def operator_flops(func: Any, args: Any, out: Any) -> tuple[int, int]:
    """Count (products of matrices, attention) of one call; operations that only move or combine elements are 0."""
    name = str(func).split(".")[1]
    return _PRODUCTS.get(name, _none)(args), _ATTENTIONS.get(name, _none)(args)


def _attention(q: Any, keys: int) -> int:
    """Return the shape of attention's result for q [B, heads, N, D]."""
    return 4 * q.numel() * keys


def _sparse(q: Any, k: Any, indices: Any, offsets_k: Any) -> int:
    """Of lists [B, heads, query blocks, R] that are full, and blocks of one size."""
    share = indices.shape[-1] / max(1, offsets_k.shape[0] - 1)
    return round(_attention(q, k.shape[2]) * min(1, share))


def _ring(q: Any, rows: Any, columns: int, frames: int, cond_frames: int, clean: int) -> int:
    """Of a strip's queries [B, heads, N, D] over the keys of all strips."""
    line, queries = sum(rows) * columns, q.shape[2]
    pairs = clean * cond_frames * line + (queries - clean) * frames * line
    return 4 * math.prod(q.shape) * pairs // queries


def _none(args: Any) -> int:
    return 0


_KINDS = ("flash_attention", "efficient_attention", "cudnn_attention", "flash_attention_for_cpu")
_PRODUCTS: dict[str, Callable[[Any], int]] = {
    "mm": lambda a: 2 * a[0].numel() * a[1].shape[-1],
    "bmm": lambda a: 2 * a[0].numel() * a[1].shape[-1],
    "addmm": lambda a: 2 * a[1].numel() * a[2].shape[-1],
}
_ATTENTIONS: dict[str, Callable[[Any], int]] = {
    **{f"_scaled_dot_product_{kind}": lambda a: _attention(a[0], a[1].shape[2]) for kind in _KINDS},
    **{
        f"_scaled_dot_product_{kind}_backward": lambda a: round(BACKWARD * _attention(a[1], a[2].shape[2]))
        for kind in _KINDS
    },
    "block_sparse": lambda a: _sparse(a[0], a[1], a[3], a[6]),
    "block_sparse_backward": lambda a: round(BACKWARD * _sparse(a[2], a[3], a[6], a[9])),
    "ring_attention": lambda a: _ring(a[0], *a[4:]),
    "ring_attention_backward": lambda a: round(BACKWARD * _ring(a[1], *a[7:])),
}
"""By an operator's name, of its arguments."""
