"""Tile sizes, warps and stages of the Triton kernels, from `tuned.json`, by kernel, type, head dim and block sizes.

`python -m kernels.tuning` measures on the GPU at hand and writes the table. What it has no line for gets the default of
`default_tiles`, chosen by what the compiler says (`kernels.inspection`), not measured: so far there was no GPU, and the
table is empty.
"""

import argparse
import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import torch
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
    found = _table().get(_name(*of, full=full))
    return Tiles(**found) if found else default_tiles(*of, full=full)


def _name(kernel: str, size: int, dim: int, capacity_q: int, capacity_k: int, *, full: bool) -> str:
    form = "full" if full else "ragged"
    return f"{kernel} {8 * size} bit, D {dim}, {form} blocks {capacity_q} x {capacity_k}"


@lru_cache(maxsize=1)
def _table() -> dict[str, dict[str, int]]:
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
    tile_q, tile_k = (min(_power(n), limit) for n, limit in ((capacity_q, most[0]), (capacity_k, most[1])))
    return Tiles(tile_q, tile_k, 8 if tile_q >= 128 or (size > 2 and kernel != "dkdv") else 4, stages)


def _power(n: int) -> int:
    """The power of 2 that holds n rows, 16 at least: what tl.dot takes."""
    return max(16, 1 << (n - 1).bit_length())


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the Triton kernels' tiles on this GPU and write tuned.json.")
    parser.add_argument("--dims", type=int, nargs="+", default=[64, 96, 128])
    parser.add_argument("--blocks", nargs="+", default=["4x4x4", "2x8x8:4x16x16", "4x4x8", "4x8x8"], help="q or q:k")
    parser.add_argument("--grid", default="16x64x64", help="tokens, frames x rows x columns")
    parser.add_argument("--keep", type=float, default=1 / 16)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.exit(2, "no CUDA device here: the table is left as it is\n")
    table = dict(_table())
    for dim, block in itertools.product(options.dims, options.blocks):
        sizes = tuple(_triple(part) for part in block.split(":"))
        table.update(_measure(dim, (sizes[0], sizes[-1]), _triple(options.grid), options.keep))
        TABLE.write_text(json.dumps({"device": torch.cuda.get_device_name(), "tiles": table}, indent=1) + "\n")


def _triple(text: str) -> tuple[int, int, int]:
    frames, rows, columns = map(int, text.split("x"))
    return frames, rows, columns


def _measure(
    dim: int, block: tuple[tuple[int, int, int], tuple[int, int, int]], grid: tuple[int, int, int], keep: float
) -> Iterator[tuple[str, dict[str, int]]]:
    """The fastest tiles of each kernel in bf16; a backward kernel is timed with the other at its default."""
    from triton.testing import do_bench

    from kernels import TopR, block_grids, select_blocks, triton_passes
    from kernels.gathered import Plan

    of_q, of_k = block_grids(grid, grid, block)
    q, k, v, grad = torch.randn(4, 1, 8, of_q.tokens, dim, device="cuda", dtype=torch.bfloat16)
    lists, scale = select_blocks(q, k, of_q, of_k, TopR(keep)), dim**-0.5
    offsets = of_q.offsets("cuda"), of_k.offsets("cuda")
    plan = Plan(lists.indices, lists.counts, *offsets, of_q.capacity, of_k.capacity, scale)
    out, lse = triton_passes.forward(q, k, v, plan)
    level = triton_passes.levels(grad, out)
    full = all(g.count * g.capacity == g.tokens for g in (of_q, of_k))
    usual = {name: tiles(name, q, of_q.capacity, of_k.capacity, full=full) for name in KERNELS}

    def run(kernel: str, choice: Tiles) -> float:
        if kernel == "forward":
            return do_bench(lambda: triton_passes.forward(q, k, v, plan, choice))
        pair = (choice, usual["dkdv"]) if kernel == "dq" else (usual["dq"], choice)
        return do_bench(lambda: triton_passes.backward(grad, level, q, k, v, lse, plan, pair))

    for kernel in KERNELS:
        timed = [(_try(run, kernel, choice), choice) for choice in _choices(of_q.capacity, of_k.capacity)]
        seconds, best = min(timed, key=lambda pair: pair[0])
        name = _name(kernel, 2, dim, of_q.capacity, of_k.capacity, full=full)
        print(f"{name}: {best}, {seconds:.3f} ms", flush=True)
        yield name, asdict(best)


def _choices(capacity_q: int, capacity_k: int) -> Iterator[Tiles]:
    sides = [sorted({min(_power(n), size) for size in (32, 64, 128)}) for n in (capacity_q, capacity_k)]
    for tile_q, tile_k, warps, stages in itertools.product(*sides, (4, 8), (2, 3, 4)):
        yield Tiles(tile_q, tile_k, warps, stages)


def _try(run, kernel: str, choice: Tiles) -> float:  # type: ignore[no-untyped-def]
    """Milliseconds; infinite where the tiles need more shared memory than there is."""
    from triton.runtime.errors import OutOfResources

    try:
        return run(kernel, choice)
    except OutOfResources:
        return float("inf")


if __name__ == "__main__":
    main()
