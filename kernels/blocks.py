"""Token grids in 3D blocks, and the token order that makes each block a range.

Source: LongCat-Video technical report (arXiv 2510.22200), A.2: tokens are rearranged into t × h × w blocks. Grids may
be of any size: the last blocks of an axis are smaller where the block does not divide it, and nothing is padded.

One frame of 3 × 4 tokens in blocks of 2 × 2. Each number is a token's place in an order:

    (t, h, w) order        block order
     0  1  2  3             0  1 |  4  5          order   = [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 10, 11]
     4  5  6  7             2  3 |  6  7          inverse = [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 10, 11]
     8  9 10 11            ------+------          offsets = [0, 4, 8, 10, 12]
                            8  9 | 10 11

    x[order]: x in block order; block i is x[order][offsets[i] : offsets[i + 1]]; x[order][inverse]: x again

Blocks of two sizes, here of 2 × 2 within 2 × 4 of a frame of 4 × 4, share one order: the small blocks are in raster
order within the large.

     0  1 |  4  5
     2  3 |  6  7
    ======+======
     8  9 | 12 13
    10 11 | 14 15
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from operator import index
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

Triple = tuple[int, int, int]

REMEMBERED = 512
"""Grids whose tensors are kept: the buckets of a run, with and without conditions, and ranks' strips of them."""

F = TypeVar("F", bound=Callable[..., Any])


def block_grids(
    grid_q: Triple, grid_k: Triple, block: Triple | tuple[Triple, Triple], cond_frames: int = 0
) -> tuple["BlockGrid", "BlockGrid"]:
    """Make the blocks of queries and of keys, on one token order for the self-attention of a grid.

    Args:
        grid_q: (frames, rows, columns) of query tokens; its frames are the last of the keys'.
        grid_k: (frames, rows, columns) of key tokens.
        block: (t, h, w) tokens for both, or the queries' and the keys', of which one is a multiple of the other.
        cond_frames: how many of the keys' first frames are clean. No block has clean and noisy tokens, so that a cache
            of the clean frames changes nothing.

    Raises:
        ValueError: for sizes that do not fit together.
    """
    block_q, block_k = _pair(block)
    _check_grids(grid_q, grid_k, cond_frames)
    before = grid_k[0] - grid_q[0]
    split = max(0, cond_frames - before) if cond_frames else 0  # queries may have more frames than the keys
    return BlockGrid(grid_q, block_q, split, block_k), BlockGrid(grid_k, block_k, cond_frames, block_q)


@dataclass(frozen=True)
class BlockGrid:
    """A token grid in blocks, numbered in block order.

    Attributes:
        grid: (frames, rows, columns) of tokens.
        block: (t, h, w) tokens of a block.
        split: number of first frames that share no block with the rest.
        other: a second block size, a multiple or a part of `block`, for a token order in which blocks of both sizes are
            contiguous.
    """

    grid: Triple
    block: Triple
    split: int = 0
    other: Triple | None = None

    def __post_init__(self) -> None:
        self.nesting()

    def nesting(self) -> tuple[Triple, Triple]:
        """Return the larger and the smaller of the two block sizes. ValueError if neither divides the other."""
        return _nested(self.block, self.other or self.block)

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        return self.grid[0] * self.grid[1] * self.grid[2]

    @property
    def capacity(self) -> int:
        """Tokens of the largest block."""
        most = max(self.split, self.grid[0] - self.split)
        return min(self.block[0], most) * min(self.block[1], self.grid[1]) * min(self.block[2], self.grid[2])

    @property
    def depths(self) -> list[int]:
        """Frames of each row of the larger blocks: the ranges of block order that hold whole frames."""
        edges = _edges(self.grid[0], self.nesting()[0][0], self.split).tolist()
        return [last - first for first, last in pairwise(edges)]

    @property
    def count(self) -> int:
        """Number of blocks."""
        frames = -(-self.split // self.block[0]) - (-(self.grid[0] - self.split) // self.block[0])
        return frames * -(-self.grid[1] // self.block[1]) * -(-self.grid[2] // self.block[2])

    def order(self, device: torch.device | str = "cpu") -> Tensor:
        """Return int64 [N], the tokens' places in (t, h, w) order, in block order: `x[order]` is in block order."""
        return _geometry(*self._plain(), str(device)).order

    def inverse(self, device: torch.device | str = "cpu") -> Tensor:
        """Return int64 [N]: `x[order][inverse]` is x."""
        return _geometry(*self._plain(), str(device)).inverse

    def offsets(self, device: torch.device | str = "cpu") -> Tensor:
        """Return int32 [blocks + 1]: block i has tokens offsets[i] to offsets[i + 1] of block order."""
        return _geometry(*self._plain(), str(device)).offsets

    def bounds(self, device: torch.device | str = "cpu") -> Tensor:
        """Return int64 [blocks, 3, 2]: first and last (exclusive) frame, row and column of each block."""
        return _geometry(*self._plain(), str(device)).bounds

    def by_size(self, device: torch.device | str = "cpu") -> list[tuple[Tensor, Tensor]]:
        """Group blocks by their number of tokens.

        Returns:
            Pairs of int64 [n], blocks, and int64 [n, tokens], their tokens' places in block order. Sixteen pairs at
            most: an axis has two lengths of blocks, time as many on each side of the split.
        """
        flat = _flat_by_size(*self._plain(), str(device))
        return list(zip(flat[::2], flat[1::2], strict=True))

    def _plain(self) -> tuple[Triple, Triple, int, Triple | None]:
        """Return the fields as plain numbers: a compiler of dynamic shapes may hold symbols, and must decide here."""
        return (
            _plain_triple(self.grid),
            _plain_triple(self.block),
            index(self.split),
            (self.other and _plain_triple(self.other)),
        )


class Geometry(NamedTuple):
    """The tensors of a grid's blocks on one device; see `BlockGrid`'s methods of these names."""

    order: Tensor
    inverse: Tensor
    offsets: Tensor
    bounds: Tensor


def constant_for_compile(function: F) -> F:
    """Mark a function whose results are constants in a graph of torch.compile.

    The tensors depend on sizes alone, and are made on the CPU with operations that would break a graph. The mark is
    `torch.compiler.assume_constant_result`'s, which imports the whole compiler to set it. The compiler can call such a
    function with plain arguments only: hence sizes in place of a `BlockGrid`.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


@constant_for_compile
def _geometry(grid: Triple, block: Triple, split: int, other: Triple | None, device: str) -> Geometry:
    return _remembered_geometry(BlockGrid(grid, block, split, other), torch.device(device))


@constant_for_compile
def _flat_by_size(grid: Triple, block: Triple, split: int, other: Triple | None, device: str) -> tuple[Tensor, ...]:
    return _remembered_by_size(BlockGrid(grid, block, split, other), torch.device(device))


def _plain_triple(sizes: Triple) -> Triple:
    return index(sizes[0]), index(sizes[1]), index(sizes[2])


@lru_cache(maxsize=REMEMBERED)
def _remembered_geometry(grid: BlockGrid, device: torch.device) -> Geometry:
    with torch.inference_mode(False), torch.device("cpu"):  # tensors first made while sampling serve training too
        if device.type != "cpu":
            return Geometry(*(x.to(device) for x in _remembered_geometry(grid, torch.device("cpu"))))
        order = _owners(grid, grid.nesting()[1]).argsort(stable=True)
        inverse = torch.empty_like(order)
        inverse[order] = torch.arange(order.numel())
        lengths = _owners(grid, grid.block).bincount()
        offsets = torch.cat((lengths.new_zeros(1), lengths.cumsum(0))).to(torch.int32)
        return Geometry(order, inverse, offsets, _bounds(_all_edges(grid, grid.block), _ranks(grid, grid.block)))


@lru_cache(maxsize=REMEMBERED)
def _remembered_by_size(grid: BlockGrid, device: torch.device) -> tuple[Tensor, ...]:
    with torch.inference_mode(False), torch.device("cpu"):
        if device.type != "cpu":
            return tuple(x.to(device) for x in _remembered_by_size(grid, torch.device("cpu")))
        offsets = grid.offsets().long()
        lengths = offsets.diff()
        pairs: list[Tensor] = []
        for length in lengths.unique().tolist():
            blocks = (lengths == length).nonzero().squeeze(-1)
            pairs += blocks, offsets[blocks, None] + torch.arange(length)
        return tuple(pairs)


def _owners(grid: BlockGrid, size: Triple) -> Tensor:
    """Return int64 [N], tokens in (t, h, w) order: which block of a size each is in, numbered in block order."""
    rank = _ranks(grid, size)
    edges = _all_edges(grid, size)
    at = [torch.bucketize(torch.arange(n), cut[1:], right=True) for n, cut in zip(grid.grid, edges, strict=True)]
    return rank[at[0][:, None, None], at[1][:, None], at[2]].flatten()


def _all_edges(grid: BlockGrid, size: Triple) -> list[Tensor]:
    """Return `_edges` of time, rows and columns."""
    splits = (grid.split, 0, 0)
    return [_edges(*axis) for axis in zip(grid.grid, size, splits, strict=True)]


def _edges(count: int, size: int, split: int) -> Tensor:
    """Return where the blocks of an axis begin, and its end."""
    return torch.tensor([*range(0, split, size), *range(split, count, size), count])


def _ranks(grid: BlockGrid, size: Triple) -> Tensor:
    """Return int64 [frame blocks, row blocks, column blocks]: the place in block order of each block of a size."""
    edges = _all_edges(grid, size)
    outer = _all_edges(grid, grid.nesting()[0])
    at = [torch.bucketize(cut[:-1], wide[1:], right=True) for cut, wide in zip(edges, outer, strict=True)]
    shape = [len(cut) - 1 for cut in outer]
    key = (at[0][:, None, None] * shape[1] + at[1][:, None]) * shape[2] + at[2]
    rank = torch.empty(key.numel(), dtype=torch.int64)
    rank[key.flatten().argsort(stable=True)] = torch.arange(key.numel())
    return rank.view(key.shape)


def _bounds(edges: list[Tensor], rank: Tensor) -> Tensor:
    """Return `BlockGrid.bounds` from `_all_edges` and `_ranks`."""
    bounds = torch.empty(rank.numel(), 3, 2, dtype=torch.int64)
    for axis, cut in enumerate(edges):
        shape = [-1 if a == axis else 1 for a in range(3)]
        for side, ends in enumerate((cut[:-1], cut[1:])):
            bounds[rank.flatten(), axis, side] = ends.view(shape).expand(rank.shape).flatten()
    return bounds


def _pair(block: Triple | tuple[Triple, Triple]) -> tuple[Triple, Triple]:
    sides = block if len(block) == 2 else (block, block)
    for side in sides:
        if not isinstance(side, tuple) or len(side) != 3 or not all(isinstance(n, int) and n > 0 for n in side):
            raise ValueError(f"block {block}: (t, h, w) of positive integers is needed, or a pair of such")
    return sides[0], sides[1]


def _nested(one: Triple, other: Triple) -> tuple[Triple, Triple]:
    """Return (outer, inner)."""
    for outer, inner in ((one, other), (other, one)):
        if all(a % b == 0 for a, b in zip(outer, inner, strict=True)):
            return outer, inner
    raise ValueError(
        f"blocks {one} and {other} have no common token order: "
        "on every axis one must be a multiple of the other, the same one on all"
    )


def _check_grids(grid_q: Triple, grid_k: Triple, cond_frames: int) -> None:
    for name, grid in (("grid_q", grid_q), ("grid_k", grid_k)):
        if len(grid) != 3 or not all(isinstance(n, int) and n > 0 for n in grid):
            raise ValueError(f"{name} {grid}: (frames, rows, columns) of positive integers is needed")
    if not 0 <= cond_frames <= grid_k[0]:
        raise ValueError(f"cond_frames {cond_frames}: the keys have {grid_k[0]} frames")
    if cond_frames and grid_q[0] > grid_k[0]:
        raise ValueError(f"grid_q {grid_q} has more frames than grid_k {grid_k}: with cond_frames they are its last")
