"""Token grids in 3D blocks: which tokens a block has, the order that makes blocks contiguous, and its inverse.

Source: LongCat-Video technical report (arXiv 2510.22200), A.2: tokens are rearranged into t × h × w blocks. A grid
of any size will do: the last blocks of an axis are smaller where the block does not divide it; nothing is padded.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from operator import index

import torch
from torch import Tensor

Triple = tuple[int, int, int]

REMEMBERED = 512
"""Grids whose tensors are kept: the buckets of a run, with and without conditions, and ranks' strips of them."""


def block_grids(
    grid_q: Triple, grid_k: Triple, block: Triple | tuple[Triple, Triple], cond_frames: int = 0
) -> tuple["BlockGrid", "BlockGrid"]:
    """The blocks of queries and of keys, on one token order for the self-attention of a grid.

    grid_q, grid_k: (frames, rows, columns) of tokens; the queries' frames are the last of the keys'. block: (t, h, w)
    tokens for both, or the queries' and the keys', of which one is a multiple of the other. cond_frames: of the keys'
    first frames, those that are clean: no block has both kinds, so that a cache of the clean ones changes nothing.
    ValueError for what does not fit.
    """
    block_q, block_k = _pair(block)
    _check_grids(grid_q, grid_k, cond_frames)
    before = grid_k[0] - grid_q[0]
    split = max(0, cond_frames - before) if cond_frames else 0  # queries may have more frames than the keys
    return BlockGrid(grid_q, block_q, split, block_k), BlockGrid(grid_k, block_k, cond_frames, block_q)


@dataclass(frozen=True)
class BlockGrid:
    """A token grid (frames, rows, columns) in blocks of (t, h, w) tokens, in raster order of blocks.

    split: of the first frames, those that share no block with the rest. other: a multiple or a part of `block`, for a
    token order in which blocks of both sizes are contiguous: the small in raster order within the large.
    """

    grid: Triple
    block: Triple
    split: int = 0
    other: Triple | None = None

    def __post_init__(self) -> None:
        self.levels()

    def levels(self) -> tuple[Triple, Triple]:
        """The larger and the smaller of the two block sizes. ValueError if neither divides the other."""
        return _nested(self.block, self.other or self.block)

    @property
    def tokens(self) -> int:
        return self.grid[0] * self.grid[1] * self.grid[2]

    @property
    def capacity(self) -> int:
        """Tokens of the largest block."""
        most = max(self.split, self.grid[0] - self.split)
        return min(self.block[0], most) * min(self.block[1], self.grid[1]) * min(self.block[2], self.grid[2])

    @property
    def depths(self) -> list[int]:
        """Frames of each range of tokens, in block order, that has whole frames: a row of the larger blocks deep."""
        edges = _edges(self.grid[0], self.levels()[0][0], self.split).tolist()
        return [last - first for first, last in pairwise(edges)]

    @property
    def count(self) -> int:
        """How many blocks there are."""
        frames = -(-self.split // self.block[0]) - (-(self.grid[0] - self.split) // self.block[0])
        return frames * -(-self.grid[1] // self.block[1]) * -(-self.grid[2] // self.block[2])

    def order(self, device: torch.device | str = "cpu") -> Tensor:
        """int64 [N]: the tokens' places in (t, h, w) order, in block order. `x[order]` is in block order."""
        return _known(*self._plain(), str(device))[0]

    def inverse(self, device: torch.device | str = "cpu") -> Tensor:
        """int64 [N]: `x[order][inverse]` is x."""
        return _known(*self._plain(), str(device))[1]

    def offsets(self, device: torch.device | str = "cpu") -> Tensor:
        """int32 [blocks + 1]: block i has tokens offsets[i] to offsets[i + 1] of block order."""
        return _known(*self._plain(), str(device))[2]

    def bounds(self, device: torch.device | str = "cpu") -> Tensor:
        """int64 [blocks, 3, 2]: first and last (exclusive) frame, row and column of each block."""
        return _known(*self._plain(), str(device))[3]

    def alike(self, device: torch.device | str = "cpu") -> list[tuple[Tensor, Tensor]]:
        """Blocks by their number of tokens: (int64 [n] blocks, int64 [n, tokens] their tokens' places in block order).

        Sixteen pairs at most: an axis has two lengths of blocks, time as many on each side of the split.
        """
        flat = _known_alike(*self._plain(), str(device))
        return list(zip(flat[::2], flat[1::2], strict=True))

    def _plain(self) -> tuple[Triple, Triple, int, Triple | None]:
        """The fields in plain numbers: a compiler of dynamic shapes may hold symbols, and must decide here."""
        return _decided(self.grid), _decided(self.block), index(self.split), self.other and _decided(self.other)


def _known(
    grid: Triple, block: Triple, split: int, other: Triple | None, device: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _geometry(BlockGrid(grid, block, split, other), torch.device(device))


def _decided(sizes: Triple) -> Triple:
    return index(sizes[0]), index(sizes[1]), index(sizes[2])


def _known_alike(grid: Triple, block: Triple, split: int, other: Triple | None, device: str) -> tuple[Tensor, ...]:
    return _alike(BlockGrid(grid, block, split, other), torch.device(device))


# torch.compiler.assume_constant_result without its import of the compiler: in a graph these are constants, and it can
# make those out of plain arguments alone
for _constant in (_known, _known_alike):
    _constant._dynamo_marked_constant = True  # type: ignore[attr-defined]


@lru_cache(maxsize=REMEMBERED)
def _geometry(grid: BlockGrid, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    with torch.inference_mode(False), torch.device("cpu"):  # what is first made while sampling is kept for training too
        if device.type != "cpu":
            return tuple(x.to(device) for x in _geometry(grid, torch.device("cpu")))
        order = _owners(grid, grid.levels()[1]).argsort(stable=True)
        inverse = torch.empty_like(order)
        inverse[order] = torch.arange(order.numel())
        lengths = _owners(grid, grid.block).bincount()
        offsets = torch.cat((lengths.new_zeros(1), lengths.cumsum(0))).to(torch.int32)
        return order, inverse, offsets, _bounds(_all_edges(grid, grid.block), _ranks(grid, grid.block))


@lru_cache(maxsize=REMEMBERED)
def _alike(grid: BlockGrid, device: torch.device) -> tuple[Tensor, ...]:
    with torch.inference_mode(False), torch.device("cpu"):
        if device.type != "cpu":
            return tuple(x.to(device) for x in _alike(grid, torch.device("cpu")))
        offsets = grid.offsets().long()
        lengths = offsets.diff()
        pairs: list[Tensor] = []
        for length in lengths.unique().tolist():
            blocks = (lengths == length).nonzero().squeeze(-1)
            pairs += blocks, offsets[blocks, None] + torch.arange(length)
        return tuple(pairs)


def _owners(grid: BlockGrid, size: Triple) -> Tensor:
    """int64 [N], tokens in (t, h, w) order: which block of a size each is in, blocks numbered in block order."""
    rank, edges = _ranks(grid, size), _all_edges(grid, size)
    at = [torch.bucketize(torch.arange(n), cut[1:], right=True) for n, cut in zip(grid.grid, edges, strict=True)]
    return rank[at[0][:, None, None], at[1][:, None], at[2]].flatten()


def _all_edges(grid: BlockGrid, size: Triple) -> list[Tensor]:
    splits = (grid.split, 0, 0)
    return [_edges(*axis) for axis in zip(grid.grid, size, splits, strict=True)]


def _edges(count: int, size: int, split: int) -> Tensor:
    """Where the blocks of an axis begin, and its end."""
    return torch.tensor([*range(0, split, size), *range(split, count, size), count])


def _ranks(grid: BlockGrid, size: Triple) -> Tensor:
    """[frame blocks, row blocks, column blocks]: the place in block order of each block of a size."""
    edges, outer = _all_edges(grid, size), _all_edges(grid, grid.levels()[0])
    at = [torch.bucketize(cut[:-1], wide[1:], right=True) for cut, wide in zip(edges, outer, strict=True)]
    shape = [len(cut) - 1 for cut in outer]
    key = (at[0][:, None, None] * shape[1] + at[1][:, None]) * shape[2] + at[2]
    rank = torch.empty(key.numel(), dtype=torch.int64)
    rank[key.flatten().argsort(stable=True)] = torch.arange(key.numel())
    return rank.view(key.shape)


def _bounds(edges: list[Tensor], rank: Tensor) -> Tensor:
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
