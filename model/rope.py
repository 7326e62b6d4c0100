"""3D rotary positions (Su et al., 2021) on a (t, h, w) token grid."""

import torch
from torch import Tensor

BASE = 10000.0


def axis_dims(head_dim: int) -> tuple[int, int, int]:
    """Share of the head dim that turns with t, h and w: 44, 42, 42 of 128."""
    side = 2 * (head_dim // 6)
    return head_dim - 2 * side, side, side


def rotation(
    head_dim: int,
    grid: tuple[int, int, int],
    origin: tuple[int, int, int] = (0, 0, 0),
    device: torch.device | str = "cpu",
) -> Tensor:
    """Return cos and sin of each token's angles, [N, D/2, 2] fp32.

    Tokens of `grid` are in (t, h, w) order, the first at `origin`. They are computed in each pass: cosines are taken of
    the axes' few positions alone, so there is nothing worth keeping.
    """
    parts = []
    for axis, dim in enumerate(axis_dims(head_dim)):
        frequencies = BASE ** (-torch.arange(0, dim, 2, dtype=torch.float64, device=device) / dim)
        positions = torch.arange(origin[axis], origin[axis] + grid[axis], dtype=torch.float64, device=device)
        angles = positions[:, None] * frequencies
        shape = [1, 1, 1, dim // 2, 2]
        shape[axis] = grid[axis]
        parts.append(torch.stack((angles.cos(), angles.sin()), dim=-1).float().view(shape).expand(*grid, -1, -1))
    return torch.cat(parts, dim=3).flatten(0, 2)


def rotate(x: Tensor, rope: Tensor) -> Tensor:
    """Rotate the interleaved pairs of x [..., N, D] by their token's angles (`rotation`) in fp32; return x's type."""
    pairs = x.float().unflatten(-1, (-1, 2))
    if torch.compiler.is_compiling():  # the compiler fuses this, and knows no complex numbers
        (even, odd), (cos, sin) = pairs.unbind(-1), rope.unbind(-1)
        turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    else:  # a pair times cos + i sin: one pass over memory
        turned = torch.view_as_real(torch.view_as_complex(pairs) * torch.view_as_complex(rope))
    return turned.flatten(-2).to(x.dtype)
