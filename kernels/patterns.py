"""Block masks that do not look at the tokens: bool [query blocks, key blocks], to be given as `select`.

The queries' frames are the last of the keys'. A block that holds a token of the pattern is kept whole.
"""

import torch
from torch import Tensor

from reelwright.kernels.blocks import BlockGrid, Triple


def plane_and_time(grid_q: BlockGrid, grid_k: BlockGrid) -> Tensor:
    """2D + 1D: the blocks of the same frames, and those of the same rows and columns at all times."""
    time, row, column = _overlaps(_in_key_frames(grid_q, grid_k), grid_k.bounds())
    return time | (row & column)


def sliding_tile(grid_q: BlockGrid, grid_k: BlockGrid, window: Triple) -> Tensor:
    """A window of (frames, rows, columns) tokens about the middle of each query block, moved inside at the grid's
    edges, so that all rows see about as much (Zhang et al., Sliding Tile Attention, 2025)."""
    if not all(isinstance(n, int) and n > 0 for n in window) or len(window) != 3:
        raise ValueError(f"window {window}: (frames, rows, columns) of positive integers is needed")
    size = torch.tensor(window).minimum(torch.tensor(grid_k.grid))
    middle = _in_key_frames(grid_q, grid_k).sum(-1)  # twice the middle
    first = ((middle - size) // 2).clamp(min=0).minimum(torch.tensor(grid_k.grid) - size)
    kept = _overlaps(torch.stack((first, first + size), dim=-1), grid_k.bounds())
    return kept[0] & kept[1] & kept[2]


def causal_by_frame(grid_q: BlockGrid, grid_k: BlockGrid) -> Tensor:
    """No block that begins after the query block's last frame. Exact by frame for blocks of one frame."""
    return grid_k.bounds()[:, 0, 0] < _in_key_frames(grid_q, grid_k)[:, None, 0, 1]


def _in_key_frames(grid_q: BlockGrid, grid_k: BlockGrid) -> Tensor:
    bounds = grid_q.bounds().clone()
    bounds[:, 0] += grid_k.grid[0] - grid_q.grid[0]
    return bounds


def _overlaps(queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For each axis, whether the ranges [query blocks, 3, 2] and [key blocks, 3, 2] share a place."""
    both = (queries[:, None, :, 0] < keys[:, :, 1]) & (keys[:, :, 0] < queries[:, None, :, 1])
    return both[..., 0], both[..., 1], both[..., 2]
