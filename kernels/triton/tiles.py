"""Tile sizes, warps and stages of the Triton kernels, from `tuned.json`, by kernel, type, head dim and block sizes.

`python -m reelwright.kernels.tools.tuning` measures on the GPU at hand and writes the table. A problem without an entry
gets those of `default_tiles`, chosen by what Triton compiles to (`kernels.tools.inspection`), not by time. The table is
empty: nothing has been measured yet.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from torch import Tensor

TABLE = Path(__file__).with_name("tuned.json")
KERNELS = ("forward", "dq", "dkdv")


@dataclass(frozen=True)
class Tiles:
    """How a kernel is launched.

    Attributes:
        m: query rows per tile, a power of 2 from 16.
        n: key rows per tile, a power of 2 from 16.
        warps: warps per program.
        stages: loads under way in a program's loop.
    """

    m: int
    n: int
    warps: int
    stages: int


def choose_tiles(kernel: str, q: Tensor, capacity_q: int, capacity_k: int, *, full: bool) -> Tiles:
    """Return the measured tiles of a problem, or the default ones.

    Args:
        kernel: forward, dq or dkdv.
        q: queries, for their type and D.
        capacity_q: tokens of the largest query block.
        capacity_k: tokens of the largest key block.
        full: all blocks have as many tokens; the kernels are then simpler and need fewer registers.
    """
    problem = (kernel, q.dtype.itemsize, q.shape[-1], capacity_q, capacity_k)
    found = table().get(table_key(*problem, full=full))
    return Tiles(**found) if found else default_tiles(*problem, full=full)


def table_key(kernel: str, itemsize: int, dim: int, capacity_q: int, capacity_k: int, *, full: bool) -> str:
    """Return a problem's name in the table, as `default_tiles` takes it."""
    form = "full" if full else "ragged"
    return f"{kernel} {8 * itemsize} bit, D {dim}, {form} blocks {capacity_q} x {capacity_k}"


@lru_cache(maxsize=1)
def table() -> dict[str, dict[str, int]]:
    """Read the measured tiles by problem."""
    return json.loads(TABLE.read_text())["tiles"]


def default_tiles(kernel: str, itemsize: int, dim: int, capacity_q: int, capacity_k: int, *, full: bool) -> Tiles:
    """Return tiles that compile without spills and use Hopper's warp-group instructions (64 rows per four warps).

    A multiprocessor holds two programs or eight warps of them. dk and dv keep two accumulators: where masks need
    registers too, their query tile is narrower.

    Args:
        kernel: forward, dq or dkdv.
        itemsize: bytes per number.
        dim: D.
        capacity_q: tokens of the largest query block.
        capacity_k: tokens of the largest key block.
        full: all blocks have as many tokens.
    """
    most = {"forward": (128, 64), "dq": (128, 64), "dkdv": (64 if full else 32, 64)}[kernel]
    stages = 2 if kernel == "dq" or (kernel == "dkdv" and full) else 3
    if itemsize > 2:
        most, stages = {"forward": (32, 32), "dq": (32, 32), "dkdv": (32, 16)}[kernel], 2
    elif dim > 128:
        most, stages = (32, 32), 2
    m = min(tile_size(capacity_q), most[0])
    n = min(tile_size(capacity_k), most[1])
    return Tiles(m, n, 8 if m >= 128 or (itemsize > 2 and kernel != "dkdv") else 4, stages)


def tile_size(rows: int) -> int:
    """Return the power of 2 that holds some rows, 16 at least: the sizes that tl.dot takes."""
    return max(16, 1 << (rows - 1).bit_length())
