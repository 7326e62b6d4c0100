"""Vectors of latent frames over tokens in (t, h, w) or block order: modulation without a copy per token.

In either order tokens fall into a few pieces in which the tokens of a frame lie regularly, so that the frame's vector
broadcasts over a view of them: one piece if the blocks divide the grid, more for the smaller blocks at its edges. A
frame of 3 rows and 5 columns in blocks of 1×2×2, its tokens numbered in block order, has four pieces, A to D:

                  block    block    block
                +--------+--------+----+
        strip   |  0   1 |  4   5 |  8 |        memory:   0 1 2 3   4 5 6 7   8 9   10 11   12 13   14
                |  2   3 |  6   7 |  9 |                  +-----+   +-----+   +-+   +---+   +---+   ++
                +--------+--------+----+        piece:       A         A       B      C       C     D
        strip   | 10  11 | 12  13 | 14 |
                +--------+--------+----+

A is 1 strip of 2 blocks of 4 tokens, C is 1 strip of 2 blocks of 2 tokens. A block of depth 2 holds its tokens of one
frame, then those of the next; frames that share blocks are a group.
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

    Attributes:
        frame: the first frame.
        depth: frames of a block.
        size: tokens of a block in one frame.
        groups: of frames: (first token, how many groups, tokens per group).
        strips: of rows within a group: (first token in the group, how many strips, tokens per strip).
        blocks: within a strip: (first token in the strip, how many blocks, tokens per block).
    """

    frame: int
    depth: int
    size: int
    groups: tuple[int, int, int]
    strips: tuple[int, int, int]
    blocks: tuple[int, int, int]

    def tokens(self, x: Tensor) -> Tensor:
        """Return the view of x [B, N, C]."""
        for dim, (first, count, each) in enumerate((self.groups, self.strips, self.blocks), start=1):
            x = x.narrow(dim, first, count * each).unflatten(dim, (count, each))
        return x.unflatten(4, (self.depth, self.size))

    def frames(self, x: Tensor) -> Tensor:
        """Return the view of x [B, T, C], one vector per frame, that broadcasts to `tokens`."""
        groups = self.groups[1]
        part = x.narrow(1, self.frame, groups * self.depth).unflatten(1, (groups, self.depth))
        return part[:, :, None, None, :, None]


@dataclass(frozen=True)
class Scattered:
    """All tokens, in an order without pieces (blocks within blocks): one copy of the frame's vector per token."""

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
    """Return the pieces of a layout's queries."""
    if layout.block is None:
        return raster(layout.query_frames, layout.frame_tokens)
    return in_blocks(layout.grids[0])


def raster(frames: int, frame_tokens: int) -> Pieces:
    """Return the one piece of tokens in (t, h, w) order: frame after frame."""
    one = (0, 1, frame_tokens)
    return (Piece(0, 1, frame_tokens, (0, frames, frame_tokens), one, one),)


def in_blocks(grid: BlockGrid) -> Pieces:
    """Return the pieces of tokens in block order."""
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
    """Cut an axis into parts of `size` and a smaller last one: (start, number of parts, their size) of each kind."""
    whole, left = divmod(last - first, size)
    runs = (first, whole, size), (last - left, 1, left)
    return [run for run in runs if run[1] * run[2]]


def modulate(x: Tensor, shift: Tensor, scale: Tensor, pieces: Pieces) -> Tensor:
    """Return x [B, N, C] · (1 + scale) + shift, both [B, T, C] per frame; computed in fp32, returned in x's type."""
    if len(pieces) > 1:
        return _Combined.apply(shift, x, 1 + scale, pieces, True)
    piece = pieces[0]
    y = torch.addcmul(piece.frames(shift), piece.tokens(x).float(), 1 + piece.frames(scale))
    return y.to(x.dtype).view(x.shape)


def gated(x: Tensor, update: Tensor, gate: Tensor, pieces: Pieces) -> Tensor:
    """Return x + gate · update, gate [B, T, C], the others [B, N, C]; computed in fp32, returned in x's type."""
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
