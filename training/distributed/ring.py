"""Ring attention: keys and values travel round the context group, each rank keeping its queries (Liu et al., 2023).

A rank attends to one strip of keys at a time; partial outputs are merged by their log-sum-exp, in fp32. In the backward
pass keys and values travel again, followed by their gradients. Any number of heads; traffic grows with the group, where
Ulysses' does not. Sending and computing overlap.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from reelwright.kernels.ring_comm import RingPass, merge
from reelwright.model.attention import Attend, Layout
from reelwright.model.sparse import SparseAttention
from reelwright.training.distributed.partial_attention import backward_piece, forward_piece
from reelwright.training.distributed.strips import Strips, attention_types

Grid = tuple[int, int, int]


def ring_attention(strips: Strips, inner: Attend) -> Attend:
    """The ring of an attention: dense, or a `SparseAttention`, whose strips are then cut between blocks."""
    from reelwright.kernels.ring import ring_block_sparse_attention

    if not isinstance(inner, SparseAttention):
        return RingAttention(strips)
    strips.multiple = max(high for _, high, _ in inner.block)

    @torch.compiler.disable
    def sparse(q: Tensor, k: Tensor, v: Tensor, *, grid_q: Grid, grid_k: Grid, **options: Any) -> Tensor:
        total = sum(strips.rows)
        options |= {"grid_q": (grid_q[0], total, grid_q[2]), "grid_k": (grid_k[0], total, grid_k[2])}
        return ring_block_sparse_attention(q, k, v, group=strips.group, rows=strips.rows, **options)

    inner.dense, inner.sparse = RingAttention(strips), sparse
    return inner


class RingAttention:
    """An `Attend`: q, k, v [B, heads, N, D] of a strip → the strip's outputs, having seen the keys of all strips."""

    def __init__(self, strips: Strips) -> None:
        self.strips = strips

    # Sends and receives are not for a graph: a block is compiled before and after them. Under activation checkpointing,
    # which is one operation of a graph, it would not be compiled at all: recipes refuse that.
    @torch.compiler.disable
    def __call__(self, q: Tensor, k: Tensor, v: Tensor, layout: Layout) -> Tensor:
        segments = _segments(q.shape[2], layout)
        return _Ring.apply(*attention_types(q, k, v), _Route(self.strips, segments, layout.columns))


@dataclass(frozen=True)
class _Segment:
    """Queries [first, last) of the strip, and how many frames of keys they see."""

    first: int
    last: int
    key_frames: int


@dataclass(frozen=True)
class _Route:
    strips: Strips
    segments: tuple[_Segment, ...]
    columns: int

    def keys(self, segment: _Segment, source: int) -> int:
        """Return how many of a rank's keys a segment sees."""
        return segment.key_frames * self.strips.rows[source] * self.columns

    def ring(self, k: Tensor, v: Tensor) -> RingPass:
        """Send this rank's keys and values round."""
        rows = self.strips.rows
        tokens_of_a_row = k.shape[2] // rows[self.strips.rank]
        return RingPass(torch.stack([k, v]), [n * tokens_of_a_row for n in rows], self.strips.group)


def _segments(queries: int, layout: Layout) -> tuple[_Segment, ...]:
    """Condition queries over condition keys, noisy queries over all (one segment where there is one kind alone)."""
    clean = layout.cond_frames * layout.frame_tokens
    parts = (_Segment(0, clean, layout.cond_frames), _Segment(clean, queries, layout.frames))
    return tuple(part for part in parts if part.last > part.first)


class _Ring(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, route: _Route) -> Tensor:
        out = torch.zeros_like(q, dtype=torch.promote_types(q.dtype, torch.float32))
        lse = out.new_full(q.shape[:3], float("-inf"))
        for _, kv, source in route.ring(k, v):
            for part in route.segments:
                here = kv[..., : route.keys(part, source), :]
                at = slice(part.first, part.last)
                merge(out[:, :, at], lse[:, :, at], *forward_piece(q[:, :, at], here[0], here[1]))
        result = out.to(q.dtype)
        ctx.route = route
        ctx.save_for_backward(q, k, v, result, lse)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, out, lse = ctx.saved_tensors
        route: _Route = ctx.route
        grad = grad.contiguous()
        wide = torch.promote_types(q.dtype, torch.float32)
        dq, ring = torch.zeros_like(q, dtype=wide), route.ring(k, v)
        for _, kv, source in ring:
            dkv = torch.zeros_like(kv, dtype=wide)
            for part in route.segments:
                count, at = route.keys(part, source), slice(part.first, part.last)
                here, rows = kv[..., :count, :], (q[:, :, at], grad[:, :, at], out[:, :, at], lse[:, :, at])
                query, key, value = backward_piece(rows[1], rows[0], here[0], here[1], rows[2], rows[3])
                dq[:, :, at] += query
                dkv[0, :, :, :count] += key
                dkv[1, :, :, :count] += value
            ring.add_grad(dkv)
        dk, dv = ring.grad()
        return dq.to(q.dtype), dk.to(k.dtype), dv.to(v.dtype), None
