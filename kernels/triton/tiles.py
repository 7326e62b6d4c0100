"""Tile sizes, warps and stages of the Triton kernels, from `tuned.json`, by kernel, type, head dim and block sizes.

`python -m reelwright.kernels.tools.tuning` measures on the GPU at hand and writes the table. What it has no line
for gets the default of `default_tiles`, chosen by what the compiler says (`kernels.tools.inspection`), not measured: so
far there was no GPU, and the table is empty.
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
    """q and k: rows of a tile, powers of 2 from 16; warps of a program; stages: loads under way in its loop."""

    q: int
    k: int
    warps: int
    stages: int


def tiles(kernel: str, q: Tensor, capacity_q: int, capacity_k: int, *, full: bool) -> Tiles:
    """What to launch a kernel ("forward", "dq", "dkdv") with for queries of a type and D and blocks of these sizes.

    full: all blocks have them; the kernels are then simpler, and need fewer registers.
    """
    of = (kernel, q.dtype.itemsize, q.shape[-1], capacity_q, capacity_k)
    found = table().get(name_of(*of, full=full))
    return Tiles(**found) if found else default_tiles(*of, full=full)


def name_of(kernel: str, size: int, dim: int, capacity_q: int, capacity_k: int, *, full: bool) -> str:
    form = "full" if full else "ragged"
    return f"{kernel} {8 * size} bit, D {dim}, {form} blocks {capacity_q} x {capacity_k}"


@lru_cache(maxsize=1)
def table() -> dict[str, dict[str, int]]:
    return json.loads(TABLE.read_text())["tiles"]


def default_tiles(kernel: str, size: int, dim: int, capacity_q: int, capacity_k: int, *, full: bool) -> Tiles:
    """Without spills, on Hopper's warp-group instructions (64 rows a group of four warps), two programs or eight warps
    on a multiprocessor. size: bytes of a number. dk and dv keep two accumulators: where masks need registers too, their
    query tile is narrower."""
    most = {"forward": (128, 64), "dq": (128, 64), "dkdv": (64 if full else 32, 64)}[kernel]
    stages = 2 if kernel == "dq" or (kernel == "dkdv" and full) else 3
    if size > 2:
        most, stages = {"forward": (32, 32), "dq": (32, 32), "dkdv": (32, 16)}[kernel], 2
    elif dim > 128:
        most, stages = (32, 32), 2
    tile_q, tile_k = (min(power(n), limit) for n, limit in ((capacity_q, most[0]), (capacity_k, most[1])))
    return Tiles(tile_q, tile_k, 8 if tile_q >= 128 or (size > 2 and kernel != "dkdv") else 4, stages)


def power(n: int) -> int:
    """The power of 2 that holds n rows, 16 at least: what tl.dot takes."""
    return max(16, 1 << (n - 1).bit_length())
