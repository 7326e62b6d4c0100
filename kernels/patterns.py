"""Block masks that do not depend on the tokens: bool [query blocks, key blocks], to be given as `select`.

The queries' frames are the last of the keys'. A block that holds a token of the pattern is kept whole.
"""

import torch
from torch import Tensor

from reelwright.kernels.blocks import BlockGrid, Triple


def plane_and_time(grid_q: BlockGrid, grid_k: BlockGrid) -> Tensor:
    """Keep the blocks of the same frames, and the blocks of the same rows and columns at all times (2D + 1D).

    Seen by the query block Q, of frame 1; one letter per block, 2 × 2 blocks per frame:

        frame 0    frame 1    frame 2
         . x        x Q        . x
         . .        x x        . .

    Args:
        grid_q: the queries' blocks.
        grid_k: the keys' blocks.
    """
    time, row, column = _overlaps(_in_key_frames(grid_q, grid_k), grid_k.bounds())
    return time | (row & column)


def sliding_tile(grid_q: BlockGrid, grid_k: BlockGrid, window: Triple) -> Tensor:
    """Keep the blocks that a window around the query block's middle touches.

    Source: Zhang et al., Sliding Tile Attention (2025). At the grid's edges the window is moved inside, so that all
    query blocks see about as much. One row of 8 blocks, of 2 tokens each, with a window of 6 tokens:

        query block 0    Q x x . . . . .    moved inside
        query block 3    . . x Q x . . .
        query block 7    . . . . . x x Q    moved inside

    Args:
        grid_q: the queries' blocks.
        grid_k: the keys' blocks.
        window: (frames, rows, columns) of tokens.

    Raises:
        ValueError: for a window that is not three positive integers.
    """
    if not all(isinstance(n, int) and n > 0 for n in window) or len(window) != 3:
        raise ValueError(f"window {window}: (frames, rows, columns) of positive integers is needed")
    size = torch.tensor(window).minimum(torch.tensor(grid_k.grid))
    middle = _in_key_frames(grid_q, grid_k).sum(-1)  # twice the middle
    first = ((middle - size) // 2).clamp(min=0).minimum(torch.tensor(grid_k.grid) - size)
    kept = _overlaps(torch.stack((first, first + size), dim=-1), grid_k.bounds())
    return kept[0] & kept[1] & kept[2]


def causal_by_frame(grid_q: BlockGrid, grid_k: BlockGrid) -> Tensor:
    """Drop the blocks that begin after the query block's last frame. Exact by frame for blocks of one frame.

    Args:
        grid_q: the queries' blocks.
        grid_k: the keys' blocks.
    """
    return grid_k.bounds()[:, 0, 0] < _in_key_frames(grid_q, grid_k)[:, None, 0, 1]


def _in_key_frames(grid_q: BlockGrid, grid_k: BlockGrid) -> Tensor:
    """Return the query blocks' bounds int64 [query blocks, 3, 2], with frames counted from the keys' first."""
    bounds = grid_q.bounds().clone()
    bounds[:, 0] += grid_k.grid[0] - grid_q.grid[0]
    return bounds


def _overlaps(queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Tell for each axis whether the ranges [query blocks, 3, 2] and [key blocks, 3, 2] share a place."""
    both = (queries[:, None, :, 0] < keys[:, :, 1]) & (keys[:, :, 0] < queries[:, None, :, 1])
    return both[..., 0], both[..., 1], both[..., 2]
