"""Vectors of latent frames over tokens that lie in (t, h, w) or in block order: modulation without a copy a token.

In either order tokens fall into a few pieces in which those of a frame lie regularly, so that its vector broadcasts
over a view of them: one piece where the blocks divide the grid, a few more for the smaller blocks at its edges.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from reelwright.kernels import BlockGrid
from reelwright.model.attention import Layout


@dataclass(frozen=True)
class Piece:
    """Tokens as a view [B, groups, strips, blocks, depth, size, C].

    That is blocks of `depth` frames of `size` tokens, in strips of rows, in groups of frames. An axis is (first token
    within the axis around it, count, tokens of one).
    """

    frame: int
    depth: int
    size: int
    groups: tuple[int, int, int]
    strips: tuple[int, int, int]
    blocks: tuple[int, int, int]

    def tokens(self, x: Tensor) -> Tensor:
        """View of x [B, N, C]."""
        for dim, (first, count, each) in enumerate((self.groups, self.strips, self.blocks), start=1):
            x = x.narrow(dim, first, count * each).unflatten(dim, (count, each))
        return x.unflatten(4, (self.depth, self.size))

    def frames(self, x: Tensor) -> Tensor:
        """View of x [B, T, C], one vector a frame, that broadcasts to the tokens'."""
        groups = self.groups[1]
        part = x.narrow(1, self.frame, groups * self.depth).unflatten(1, (groups, self.depth))
        return part[:, :, None, None, :, None]


@dataclass(frozen=True)
class Scattered:
    """All tokens, in an order without pieces (blocks within blocks): a copy of its frame's vector for each."""

    grid: BlockGrid

    def tokens(self, x: Tensor) -> Tensor:
        """Return tokens x [B, N, C] as they are."""
        return x

    def frames(self, x: Tensor) -> Tensor:
        """Repeat values of frames for their tokens: x [B, T, C] -> [B, N, C]."""
        frame_tokens = self.grid.grid[1] * self.grid.grid[2]
        return x.index_select(1, self.grid.order(x.device) // frame_tokens)


Pieces = tuple[Piece, ...] | tuple[Scattered]


def pieces_of(layout: Layout) -> Pieces:
    """Return the views of a layout's queries by frame."""
    if layout.block is None:
        return raster(layout.query_frames, layout.frame_tokens)
    return in_blocks(layout.grids[0])


def raster(frames: int, frame_tokens: int) -> Pieces:
    """Return the view of tokens in (t, h, w) order: frame after frame."""
    one = (0, 1, frame_tokens)
    return (Piece(0, 1, frame_tokens, (0, frames, frame_tokens), one, one),)


def in_blocks(grid: BlockGrid) -> Pieces:
    """Return the views of tokens in block order."""
    if grid.other not in {None, grid.block}:
        return (Scattered(grid),)
    pieces = []
    (frames, rows, columns), (depth, high, wide) = grid.grid, grid.block
    for frame, groups, d in [*_runs(0, grid.split, depth), *_runs(grid.split, frames, depth)]:
        group = (frame * rows * columns, groups, d * rows * columns)
        for row, strips, h in _runs(0, rows, high):
            strip = (row * d * columns, strips, d * h * columns)
            for column, blocks, w in _runs(0, columns, wide):
                pieces.append(Piece(frame, d, h * w, group, strip, (column * d * h, blocks, d * h * w)))
    return tuple(pieces)


def _runs(first: int, last: int, size: int) -> list[tuple[int, int, int]]:
    """Split an axis into parts of `size` and a rest: where each kind starts, how many there are, of what size."""
    whole, left = divmod(last - first, size)
    runs = (first, whole, size), (last - left, 1, left)
    return [run for run in runs if run[1] * run[2]]


def modulate(x: Tensor, shift: Tensor, scale: Tensor, pieces: Pieces) -> Tensor:
    """Return x [B, N, C] · (1 + scale) + shift, with scale and shift [B, T, C] per frame; in fp32, then in x's type."""
    if len(pieces) > 1:
        return _Combined.apply(shift, x, 1 + scale, pieces, True)
    piece = pieces[0]
    y = torch.addcmul(piece.frames(shift), piece.tokens(x).float(), 1 + piece.frames(scale))
    return y.to(x.dtype).view(x.shape)


def gated(x: Tensor, update: Tensor, gate: Tensor, pieces: Pieces) -> Tensor:
    """Return x + gate [B, T, C] · update, both [B, N, C]; in fp32, then in x's type."""
    if len(pieces) > 1:
        return _Combined.apply(x, update, gate, pieces, False)
    piece = pieces[0]
    y = torch.addcmul(piece.tokens(x).float(), piece.frames(gate), piece.tokens(update).float())
    return y.to(x.dtype).view(x.shape)


class _Combined(torch.autograd.Function):
    """base + y · factor, piece by piece into one output. base: of frames, or of tokens."""

    @staticmethod
    def forward(ctx: Any, base: Tensor, y: Tensor, factor: Tensor, pieces: Sequence[Piece], by_frame: bool) -> Tensor:
        ctx.save_for_backward(y, factor)
        ctx.pieces, ctx.by_frame, ctx.base_type = pieces, by_frame, base.dtype
        out = torch.empty_like(y if by_frame else base)
        for piece in pieces:
            start = piece.frames(base) if by_frame else piece.tokens(base).float()
            piece.tokens(out).copy_(torch.addcmul(start, piece.tokens(y).float(), piece.frames(factor)))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        y, factor = ctx.saved_tensors
        grad = grad.contiguous()
        dy, dfactor = torch.empty_like(y), torch.zeros_like(factor)
        dbase = torch.zeros(factor.shape, dtype=ctx.base_type, device=y.device) if ctx.by_frame else grad
        for piece in ctx.pieces:
            slope = piece.tokens(grad).float()
            piece.tokens(dy).copy_(slope * piece.frames(factor))
            piece.frames(dfactor).add_((slope * piece.tokens(y).float()).sum((2, 3, 5), keepdim=True))
            if ctx.by_frame:
                piece.frames(dbase).add_(slope.sum((2, 3, 5), keepdim=True))
        return dbase, dy, dfactor, None, None
