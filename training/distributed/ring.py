"""Ring attention: keys and values travel round the context group, each rank keeping its queries (Liu et al., 2023).

A rank attends to one strip of keys at a time; partial outputs are merged by their log-sum-exp, in fp32. In the backward
pass keys and values travel again, followed by their gradients. Any number of heads; traffic grows with the group, where
Ulysses' does not. Sending and computing overlap.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import _resolve_process_group

from reelwright.kernels.ring_comm import RingPass, merge
from reelwright.model.attention import Attend, Layout
from reelwright.model.sparse import SparseAttention
from reelwright.training.distributed.partial_attention import backward_piece, forward_piece
from reelwright.training.distributed.strips import Strips, attention_types

Grid = tuple[int, int, int]


def ring_attention(strips: Strips, inner: Attend) -> Attend:
    """Make the ring of an attention: dense, or a `SparseAttention`, whose strips are then cut between blocks."""
    from reelwright.kernels.ring import ring_block_sparse_attention

    if not isinstance(inner, SparseAttention):
        return RingAttention(strips)
    strips.multiple = max(high for _, high, _ in inner.block)

    @torch.compiler.disable  # its lists of blocks are as long as numbers say; see `parallelize`'s regions
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
        self.group = strips.group.group_name

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, layout: Layout) -> Tensor:
        """Attend to the whole sample: keys and values travel round the ring of ranks."""
        clean = layout.cond_frames * layout.frame_tokens
        route = (self.group, list(self.strips.rows), layout.columns, layout.frames, layout.cond_frames, clean)
        out, _ = torch.ops.reelwright.ring_attention(*attention_types(q, k, v), *route)
        return out


# An operator, so that a graph has it whole: blocks are compiled around it, also under activation checkpointing, which
# keeps its outputs, and so sends keys and values no second time.
@torch.library.custom_op(
    "reelwright::ring_attention",
    mutates_args=(),
    schema="(Tensor q, Tensor k, Tensor v, str group, int[] rows, int columns, int frames, int cond_frames, int clean)"
    " -> (Tensor, Tensor)",
)
def _forward(q: Tensor, k: Tensor, v: Tensor, *route: Any) -> tuple[Tensor, Tensor]:
    """Return the strip's outputs [B, heads, N, D] and their log-sum-exp [B, heads, N]. All ranks of the group call it.

    route: as `_Route`'s fields.
    """
    way = _Route(*route)
    out = torch.zeros_like(q, dtype=_wide(q))
    lse = out.new_full(q.shape[:3], float("-inf"))
    for _, kv, source in way.ring(k, v):
        for part in way.segments(q.shape[2]):
            here = kv[..., : way.keys(part, source), :]
            at = slice(part.first, part.last)
            merge(out[:, :, at], lse[:, :, at], *forward_piece(q[:, :, at], here[0], here[1]))
    return out.to(q.dtype), lse


@torch.library.custom_op(
    "reelwright::ring_attention_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, "
    "str group, int[] rows, int columns, int frames, int cond_frames, int clean) -> (Tensor, Tensor, Tensor)",
)
def _backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, *route: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v; keys and values go round again, followed by their gradients."""
    way = _Route(*route)
    grad, wide = grad.contiguous(), _wide(q)
    dq, ring = torch.zeros_like(q, dtype=wide), way.ring(k, v)
    for _, kv, source in ring:
        dkv = torch.zeros_like(kv, dtype=wide)
        for part in way.segments(q.shape[2]):
            count, at = way.keys(part, source), slice(part.first, part.last)
            here, rows = kv[..., :count, :], (q[:, :, at], grad[:, :, at], out[:, :, at], lse[:, :, at])
            query, key, value = backward_piece(rows[1], rows[0], here[0], here[1], rows[2], rows[3])
            dq[:, :, at] += query
            dkv[0, :, :, :count] += key
            dkv[1, :, :, :count] += value
            del query, key, value  # as large as what the next piece makes
        ring.add_grad(dkv)
    dk, dv = ring.grad()
    return dq.to(q.dtype), dk.to(k.dtype, copy=True), dv.to(v.dtype, copy=True)


@_forward.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *route: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(q), q.new_empty(q.shape[:3], dtype=_wide(q))


@_backward.register_fake
def _(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, *route: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(q), k.new_empty(k.shape), v.new_empty(v.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, *ctx.route = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(q, k, v, *output)


def _gradients(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    return *torch.ops.reelwright.ring_attention_backward(grad, *ctx.saved_tensors, *ctx.route), *(None,) * 6


_forward.register_autograd(_gradients, setup_context=_save)


@dataclass(frozen=True)
class _Segment:
    """Queries [first, last) of the strip, and how many frames of keys they see."""

    first: int
    last: int
    key_frames: int


@dataclass(frozen=True)
class _Route:
    """The arguments of a ring besides its tensors.

    Attributes:
        group: name of the ranks' process group.
        rows: of each rank's strip.
        columns: of the keys' grid.
        frames: of the keys' grid.
        cond_frames: frames that condition queries see.
        clean: condition queries of this strip.
    """

    group: str
    rows: Sequence[int]
    columns: int
    frames: int
    cond_frames: int
    clean: int

    def segments(self, queries: int) -> tuple[_Segment, ...]:
        """Condition queries over condition keys, noisy queries over all (one segment where there is one kind alone)."""
        parts = (_Segment(0, self.clean, self.cond_frames), _Segment(self.clean, queries, self.frames))
        return tuple(part for part in parts if part.last > part.first)

    def keys(self, segment: _Segment, source: int) -> int:
        """Return how many of a rank's keys a segment sees."""
        return segment.key_frames * self.rows[source] * self.columns

    def ring(self, k: Tensor, v: Tensor) -> RingPass:
        """Send this rank's keys and values round."""
        group = _resolve_process_group(self.group)
        tokens_of_a_row = k.shape[2] // self.rows[dist.get_rank(group)]
        return RingPass(torch.stack([k, v]), [n * tokens_of_a_row for n in self.rows], group)


def _wide(q: Tensor) -> torch.dtype:
    return torch.promote_types(q.dtype, torch.float32)
