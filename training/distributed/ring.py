"""Ring attention: keys and values travel round the context group, each rank keeping its queries (Liu et al., 2023).

A rank attends to one strip of keys at a time; partial outputs are merged by their log-sum-exp, in fp32. In the backward
pass keys and values travel again, followed by their gradients. Any number of heads; traffic grows with the group, where
Ulysses' does not. Sending and computing overlap.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from reelwright.kernels.travel import Arriving, merge, pass_on
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
    strips.multiple, strips.strict = max(high for _, high, _ in inner.block), True

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

    def source(self, step: int) -> int:
        """Whose keys are here at a step."""
        return (self.strips.rank - step) % self.strips.size

    def keys(self, segment: _Segment, step: int) -> int:
        """How many of the keys that are here at a step a segment sees."""
        return segment.key_frames * self.strips.rows[self.source(step)] * self.columns

    def arriving(self, here: torch.Size, step: int) -> list[int]:
        """Shape of what arrives for the next step, [2, B, heads, N, D], from that of what is here."""
        rows = self.strips.rows
        return [*here[:3], here[3] // rows[self.source(step)] * rows[self.source(step + 1)], here[4]]


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
        kv = torch.stack([k, v])
        for step in range(route.strips.size):
            arriving = _pass_on(kv, route, step) if step + 1 < route.strips.size else None
            for part in route.segments:
                here = kv[..., : route.keys(part, step), :]
                at = slice(part.first, part.last)
                merge(out[:, :, at], lse[:, :, at], *forward_piece(q[:, :, at], here[0], here[1]))
            kv = arriving.wait() if arriving else kv
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
        dq, kv = torch.zeros_like(q, dtype=wide), torch.stack([k, v])
        following: Arriving | None = None  # the gradient of the keys that are here, from the ranks they have visited
        for step in range(route.strips.size):
            arriving = _pass_on(kv, route, step) if step + 1 < route.strips.size else None
            dkv = torch.zeros_like(kv, dtype=wide)
            for part in route.segments:
                count, at = route.keys(part, step), slice(part.first, part.last)
                here, rows = kv[..., :count, :], (q[:, :, at], grad[:, :, at], out[:, :, at], lse[:, :, at])
                query, key, value = backward_piece(rows[1], rows[0], here[0], here[1], rows[2], rows[3])
                dq[:, :, at] += query
                dkv[0, :, :, :count] += key
                dkv[1, :, :, :count] += value
            dkv = dkv + following.wait() if following else dkv
            following = _pass_on(dkv, route, step)
            kv = arriving.wait() if arriving else kv
        assert following is not None
        home = following.wait()
        return dq.to(q.dtype), home[0].to(k.dtype), home[1].to(v.dtype), None


def _pass_on(tensor: Tensor, route: _Route, step: int) -> Arriving:
    """Send to the next rank what is here at `step`, and take what the rank before has."""
    return pass_on(tensor, route.arriving(tensor.shape, step), route.strips.group)
