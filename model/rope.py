"""3D rotary positions (Su et al., 2021) on a (t, h, w) token grid."""

from dataclasses import dataclass

import torch
from torch import Tensor

BASE = 10000.0


@dataclass(frozen=True)
class Span:
    """The place of a part of each frame.

    Its tokens, a row of their own, are those from `first` on, in (h, w) order, of a frame of `columns` columns.
    """

    first: int
    columns: int


Origin = tuple[int, int, int] | Span


def axis_dims(head_dim: int) -> tuple[int, int, int]:
    """Share of the head dim that turns with t, h and w: 44, 42, 42 of 128."""
    side = 2 * (head_dim // 6)
    return head_dim - 2 * side, side, side


def rotation(
    head_dim: int,
    grid: tuple[int, int, int],
    origin: Origin = (0, 0, 0),
    device: torch.device | str = "cpu",
) -> Tensor:
    """Return cos and sin of each token's angles, [N, D/2, 2] fp32.

    Made in each pass: cosines are taken of the axes' few positions alone, so there is nothing worth keeping.
    """
    parts = []
    for axis, (positions, dim) in enumerate(zip(_positions(grid, origin, device), axis_dims(head_dim), strict=True)):
        frequencies = BASE ** (-torch.arange(0, dim, 2, dtype=torch.float64, device=device) / dim)
        angles = positions[:, None] * frequencies
        shape = [1, 1, 1, dim // 2, 2]
        shape[2 if isinstance(origin, Span) and axis else axis] = len(positions)
        parts.append(torch.stack((angles.cos(), angles.sin()), dim=-1).float().view(shape).expand(*grid, -1, -1))
    return torch.cat(parts, dim=3).flatten(0, 2)


def _positions(grid: tuple[int, int, int], origin: Origin, device: torch.device | str) -> list[Tensor]:
    """Positions along t, h and w, fp64: of the axes of `grid`; of a span, h and w of each of its tokens."""
    if isinstance(origin, Span):
        tokens = torch.arange(origin.first, origin.first + grid[2], device=device)
        positions = [torch.arange(grid[0], device=device), tokens // origin.columns, tokens % origin.columns]
        return [position.double() for position in positions]
    axes = zip(origin, grid, strict=True)
    return [torch.arange(first, first + n, dtype=torch.float64, device=device) for first, n in axes]


def rotate(x: Tensor, rope: Tensor) -> Tensor:
    """Rotate the interleaved pairs of x [..., N, D] by their token's angles (`rotation`) in fp32; return x's type."""
    pairs = x.float().unflatten(-1, (-1, 2))
    if torch.compiler.is_compiling():  # the compiler fuses this, and knows no complex numbers
        (even, odd), (cos, sin) = pairs.unbind(-1), rope.unbind(-1)
        turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    else:  # a pair times cos + i sin: one pass over memory
        turned = torch.view_as_real(torch.view_as_complex(pairs) * torch.view_as_complex(rope))
    return turned.flatten(-2).to(x.dtype)
