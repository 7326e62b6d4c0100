"""3D rotary positions (Su et al., 2021) on a (t, h, w) token grid."""

from functools import lru_cache

import torch
from torch import Tensor

BASE = 10000.0

Rotation = tuple[Tensor, Tensor]
"""cos and sin of every token's angles, each [N, D/2] fp32."""


def axis_dims(head_dim: int) -> tuple[int, int, int]:
    """Share of the head dim that turns with t, h and w: 44, 42, 42 of 128."""
    side = 2 * (head_dim // 6)
    return head_dim - 2 * side, side, side


@lru_cache(maxsize=32)
def rotation(
    head_dim: int, grid: tuple[int, int, int], origin: tuple[int, int, int], device: torch.device
) -> Rotation:
    """Angles of the tokens of `grid`, in (t, h, w) order, whose first token is at `origin`."""
    angles = []
    for axis, dim in enumerate(axis_dims(head_dim)):
        frequencies = BASE ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
        positions = torch.arange(origin[axis], origin[axis] + grid[axis], dtype=torch.float64)
        shape = [1, 1, 1, dim // 2]
        shape[axis] = grid[axis]
        angles.append((positions[:, None] * frequencies).view(shape).expand(*grid, -1))
    whole = torch.cat(angles, dim=-1).reshape(-1, head_dim // 2).to(device)
    return whole.cos().float(), whole.sin().float()


def rotate(x: Tensor, turn: Rotation) -> Tensor:
    """x [..., N, D] -> the same, each interleaved pair turned by its token's angle, in fp32, in x's type."""
    cos, sin = turn
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2).to(x.dtype)
