"""Measure the Triton kernels' tiles on this GPU: `python -m reelwright.kernels.tools.tuning` writes `tuned.json`.

First the compiler says, on all cores and without the GPU, which tiles fit it without spills
(`kernels.tools.inspection`); what is compiled then is in Triton's cache when it is launched. Those that do are timed,
the most wanted blocks first, until `--seconds` have passed; what was measured by then is kept.
"""

import argparse
import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from os import cpu_count
from typing import Any

import torch

from reelwright.kernels.blocks import Triple, block_grids
from reelwright.kernels.tools.inspection import compiled
from reelwright.kernels.triton.tiles import KERNELS, TABLE, Tiles, name_of, power, table, tiles

SHARED = 227 << 10
"""Bytes a program may have on Hopper."""
Map = Callable[..., Iterable[bool]]
"""As `map`: a pool's, of several processes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dims", type=int, nargs="+", default=[128])
    parser.add_argument("--blocks", nargs="+", default=["4x4x4", "2x8x8:4x16x16", "4x4x8", "4x8x8"], help="q or q:k")
    parser.add_argument("--grids", nargs="+", default=["16x64x64", "15x62x62"], help="tokens; full blocks, ragged ones")
    parser.add_argument("--keep", type=float, default=1 / 16)
    parser.add_argument("--seconds", type=float, default=600)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.exit(2, "no CUDA device here: the table is left as it is\n")
    until, found = time.monotonic() + options.seconds, dict(table())
    with ProcessPoolExecutor(cpu_count(), mp_context=get_context("spawn")) as pool:
        for block, grid, dim in itertools.product(options.blocks, options.grids, options.dims):
            sizes = tuple(_triple(part) for part in block.split(":"))
            for name, best in _measured(dim, (sizes[0], sizes[-1]), _triple(grid), options.keep, until, pool.map):
                found[name] = best
                TABLE.write_text(json.dumps({"device": torch.cuda.get_device_name(), "tiles": found}, indent=1) + "\n")
    if time.monotonic() > until:
        print(f"{options.seconds:g} seconds have passed; for the rest, name --blocks, --grids and --dims")


def fitting(
    kernel: str, dtype: str, dim: int, blocks: tuple[int, int], choices: Sequence[Tiles], *, full: bool, each: Map = map
) -> list[Tiles]:
    """Those of the choices that compile for Hopper to what a multiprocessor can hold, without spills, and in halves on
    its warp-group instructions alone."""
    fits = each(partial(_fits, kernel, dtype, dim, blocks, full), choices)
    return [choice for choice, good in zip(choices, fits, strict=True) if good]


def _fits(kernel: str, dtype: str, dim: int, blocks: tuple[int, int], full: bool, choice: Tiles) -> bool:
    try:
        code = compiled(kernel, dtype, dim, blocks=blocks, full=full, tiles=choice)
    except Exception as reason:  # a choice that Triton cannot compile is none
        print(f"{kernel} {choice}: {type(reason).__name__}: {str(reason)[:100]}", flush=True)
        return False
    units = dtype == "fp32" or (code.wgmma > 0 and code.mma == 0)
    return units and code.spilled == 0 and code.shared <= SHARED and code.resident(choice.warps) >= 1


def _measured(
    dim: int, block: tuple[Triple, Triple], grid: Triple, keep: float, until: float, each: Map
) -> Iterator[tuple[str, dict[str, int]]]:
    """The fastest tiles of each kernel in bf16 on a grid, by their name in the table."""
    sizes = block_grids(grid, grid, block)
    blocks = sizes[0].capacity, sizes[1].capacity
    full = all(side.count * side.capacity == side.tokens for side in sizes)
    runs: dict[str, Callable[[Tiles], float]] = {}
    for kernel in KERNELS:
        if time.monotonic() > until:
            return
        name = name_of(kernel, 2, dim, *blocks, full=full)
        choices = fitting(kernel, "bf16", dim, blocks, list(_choices(*blocks)), full=full, each=each)
        runs = runs or _runs(dim, block, grid, keep)
        timed = [(runs[kernel](choice), choice) for choice in choices if time.monotonic() < until]
        if not timed or len(timed) < len(choices):
            return  # half a search is no choice
        milliseconds, best = min(timed, key=lambda pair: pair[0])
        print(f"{name}: {best}, {milliseconds:.3f} ms, of {len(choices)}", flush=True)
        yield name, asdict(best)


def _runs(dim: int, block: tuple[Triple, Triple], grid: Triple, keep: float) -> dict[str, Callable[[Tiles], float]]:
    """Of each kernel: tiles -> milliseconds of its pass; a backward kernel's with the other at its default."""
    from triton.testing import do_bench

    from reelwright.kernels import TopR, select_blocks
    from reelwright.kernels.reference import Plan
    from reelwright.kernels.triton import passes as triton_passes

    of_q, of_k = block_grids(grid, grid, block)
    q, k, v, grad = torch.randn(4, 1, 8, of_q.tokens, dim, device="cuda", dtype=torch.bfloat16)
    lists, offsets = select_blocks(q, k, of_q, of_k, TopR(keep)), (of_q.offsets("cuda"), of_k.offsets("cuda"))
    plan = Plan(lists.indices, lists.counts, *offsets, of_q.capacity, of_k.capacity, dim**-0.5)
    out, lse = triton_passes.forward(q, k, v, plan)
    level = triton_passes.levels(grad, out)
    full = all(side.count * side.capacity == side.tokens for side in (of_q, of_k))
    of_dq, of_dkdv = (tiles(name, q, of_q.capacity, of_k.capacity, full=full) for name in KERNELS[1:])

    def backward(*pair: Tiles) -> Any:
        return triton_passes.backward(grad, level, q, k, v, lse, plan, (pair[0], pair[1]))

    return {
        "forward": lambda choice: _timed(do_bench, lambda: triton_passes.forward(q, k, v, plan, choice)),
        "dq": lambda choice: _timed(do_bench, lambda: backward(choice, of_dkdv)),
        "dkdv": lambda choice: _timed(do_bench, lambda: backward(of_dq, choice)),
    }


def _timed(do_bench: Callable[[Callable[[], Any]], float], run: Callable[[], Any]) -> float:
    """Milliseconds; infinite where this GPU has not the memory that the tiles need."""
    from triton.runtime.errors import OutOfResources

    try:
        return do_bench(run)
    except OutOfResources:
        return float("inf")


def _choices(capacity_q: int, capacity_k: int) -> Iterator[Tiles]:
    sides = [sorted({min(power(n), size) for size in (32, 64, 128)}) for n in (capacity_q, capacity_k)]
    for tile_q, tile_k, warps, stages in itertools.product(*sides, (4, 8), (2, 3, 4)):
        yield Tiles(tile_q, tile_k, warps, stages)


def _triple(text: str) -> Triple:
    frames, rows, columns = map(int, text.split("x"))
    return frames, rows, columns


if __name__ == "__main__":
    main()
