"""Measure the Triton kernels' tiles on this GPU: `python -m reelwright.kernels.tools.tuning` writes `tuned.json`.

The compiler first tells, on all cores and without the GPU, which tiles fit it without spills
(`kernels.tools.inspection`); a launch then finds them in Triton's cache. Tiles that fit are timed, the most used blocks
first, until `--seconds` have passed; the table keeps every search that was finished by then.
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
from reelwright.kernels.triton.tiles import KERNELS, TABLE, Tiles, default_tiles, table, table_key, tile_size

SHARED_BYTES = 227 << 10
"""Shared memory that a program may have on Hopper."""
Map = Callable[..., Iterable[bool]]
"""`map`, or that of a pool of processes."""


def main() -> None:
    """Measure tiles on this GPU and write `tuned.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dims", type=int, nargs="+", default=[128])
    parser.add_argument("--blocks", nargs="+", default=["4x4x4", "2x8x8:4x16x16", "4x4x8", "4x8x8"], help="q or q:k")
    parser.add_argument("--grids", nargs="+", default=["16x64x64", "15x62x62"], help="tokens; full blocks, ragged ones")
    parser.add_argument("--keep", type=float, default=1 / 16)
    parser.add_argument("--seconds", type=float, default=600)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.exit(2, "no CUDA device here: the table is left as it is\n")
    until = time.monotonic() + options.seconds
    found = dict(table())
    with ProcessPoolExecutor(cpu_count(), mp_context=get_context("spawn")) as pool:
        for block, grid, dim in itertools.product(options.blocks, options.grids, options.dims):
            for key, best, figures in search(block, grid, dim, options.keep, until, pool.map):
                print(f"{key}: {best}, {figures['ms']:.3f} ms, of {figures['choices']:.0f}", flush=True)
                found[key] = asdict(best)
                TABLE.write_text(json.dumps({"device": torch.cuda.get_device_name(), "tiles": found}, indent=1) + "\n")
    if time.monotonic() > until:
        print(f"{options.seconds:g} seconds have passed; for the rest, name --blocks, --grids and --dims")


def fitting(
    kernel: str, dtype: str, dim: int, blocks: tuple[int, int], choices: Sequence[Tiles], *, full: bool, each: Map = map
) -> list[Tiles]:
    """Return the tiles that a Hopper multiprocessor can hold without spills; halves must use warp-group instructions.

    Args:
        kernel: forward, dq or dkdv.
        dtype: bf16, fp16 or fp32.
        dim: D.
        blocks: tokens of the largest query block, and of the largest key block.
        choices: tiles to compile.
        full: all blocks have as many tokens.
        each: how to map a function over the choices.
    """
    fits = each(partial(_fits, kernel, dtype, dim, blocks, full), choices)
    return [choice for choice, good in zip(choices, fits, strict=True) if good]


def _fits(kernel: str, dtype: str, dim: int, blocks: tuple[int, int], full: bool, choice: Tiles) -> bool:
    try:
        code = compiled(kernel, dtype, dim, blocks=blocks, full=full, tiles=choice)
    except Exception as error:  # a choice that Triton cannot compile is none
        print(f"{kernel} {choice}: {type(error).__name__}: {str(error)[:100]}", flush=True)
        return False
    tensor_cores = dtype == "fp32" or (code.wgmma > 0 and code.mma == 0)
    return tensor_cores and code.spilled == 0 and code.shared <= SHARED_BYTES and code.resident(choice.warps) >= 1


def search(
    block: str, grid: str, dim: int, keep: float, until: float, each: Map
) -> Iterator[tuple[str, Tiles, dict[str, float]]]:
    """Yield the fastest bf16 tiles of each kernel on a grid, as soon as its search is finished.

    Args:
        block: FRAMESxROWSxCOLUMNS of tokens, of queries and keys, or QUERIES:KEYS.
        grid: FRAMESxROWSxCOLUMNS of tokens.
        dim: D.
        keep: share of the key blocks that are kept.
        until: `time.monotonic` at which the search ends; half a search yields nothing.
        each: how to map a function over choices: `map`, or a pool's.

    Yields:
        The key in the table, the tiles, and milliseconds of theirs, of the default's, and the number of choices.
    """
    sizes = tuple(_triple(part) for part in block.split(":"))
    blocks_q, blocks_k = block_grids(_triple(grid), _triple(grid), (sizes[0], sizes[-1]))
    capacities = blocks_q.capacity, blocks_k.capacity
    full = all(side.count * side.capacity == side.tokens for side in (blocks_q, blocks_k))
    runs: dict[str, Callable[[Tiles], float]] = {}
    for kernel in KERNELS:
        if time.monotonic() > until:
            return
        choices = fitting(kernel, "bf16", dim, capacities, list(_choices(*capacities)), full=full, each=each)
        runs = runs or _runs(dim, (sizes[0], sizes[-1]), _triple(grid), keep)
        timed = [(runs[kernel](choice), choice) for choice in choices if time.monotonic() < until]
        if not timed or len(timed) < len(choices):
            return  # half a search is no choice
        milliseconds, best = min(timed, key=lambda pair: pair[0])
        usual = default_tiles(kernel, 2, dim, *capacities, full=full)
        figures = {"ms": milliseconds, "default_ms": {choice: ms for ms, choice in timed}.get(usual, float("nan"))}
        key = table_key(kernel, 2, dim, *capacities, full=full)
        yield key, best, {**figures, "choices": float(len(choices))}


def _runs(dim: int, block: tuple[Triple, Triple], grid: Triple, keep: float) -> dict[str, Callable[[Tiles], float]]:
    """Return, by kernel, a function from tiles to milliseconds."""
    from triton.testing import do_bench

    from reelwright.kernels import BlockSparseCall, TopR, select_blocks
    from reelwright.kernels.triton import passes

    blocks_q, blocks_k = block_grids(grid, grid, block)
    q, k, v, grad = torch.randn(4, 1, 8, blocks_q.tokens, dim, device="cuda", dtype=torch.bfloat16)
    lists = select_blocks(q, k, blocks_q, blocks_k, TopR(keep))
    call = BlockSparseCall.of(lists, blocks_q, blocks_k, scale=dim**-0.5)
    out, lse = passes.forward(q, k, v, call)
    inputs = passes.BackwardInputs.of(grad, passes.delta(grad, out), q, k, v, lse)
    return {
        "forward": lambda tiles: _timed(do_bench, lambda: passes.forward(q, k, v, call, tiles)),
        "dq": lambda tiles: _timed(do_bench, lambda: passes.backward_dq(inputs, call, tiles)),
        "dkdv": lambda tiles: _timed(do_bench, lambda: passes.backward_dkdv(inputs, call, tiles)),
    }


def _timed(do_bench: Callable[[Callable[[], Any]], float], run: Callable[[], Any]) -> float:
    """Return milliseconds; infinity where this GPU lacks the memory that the tiles need."""
    from triton.runtime.errors import OutOfResources

    try:
        return do_bench(run)
    except OutOfResources:
        return float("inf")


def _choices(capacity_q: int, capacity_k: int) -> Iterator[Tiles]:
    sides = [sorted({min(tile_size(n), size) for size in (32, 64, 128)}) for n in (capacity_q, capacity_k)]
    for m, n, warps, stages in itertools.product(*sides, (4, 8), (2, 3, 4)):
        yield Tiles(m, n, warps, stages)


def _triple(text: str) -> Triple:
    frames, rows, columns = map(int, text.split("x"))
    return frames, rows, columns


if __name__ == "__main__":
    main()
