"""Block 4: the fastest tiles of each kernel on this GPU, into OUT/tuned.json; it replaces kernels/triton/tuned.json."""

import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from os import cpu_count

import torch

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.report import Figure
from reelwright.kernels.tools import tuning
from reelwright.kernels.triton.tiles import Tiles, default_tiles

PROBLEMS = (("4x4x4", "16x64x64"), ("2x8x8:4x16x16", "16x64x64"), ("4x4x4", "15x62x62"), ("2x8x8:4x16x16", "15x62x62"))
"""Blocks and grids, the most used first: full blocks, then ragged ones."""


def run(bench: Bench) -> None:
    if bench.toy or bench.device.type != "cuda":
        tiles = Tiles(64, 64, 4, 3)
        bench.attempt("one choice, compiled for Hopper without a GPU", lambda: _fits(tiles))
        return
    found: dict[str, dict[str, int]] = {}
    with ProcessPoolExecutor(cpu_count(), mp_context=multiprocessing.get_context("spawn")) as pool:
        for block, grid in PROBLEMS:
            until = min(bench.until, time.monotonic() + bench.left_s * 0.6)
            for key, best, figures in tuning.search(block, grid, 128, 1 / 16, until, pool.map):
                found[key] = asdict(best)
                bench.add(key, tiles=f"{best.m} x {best.n}, {best.warps} warps, {best.stages} stages", **figures)
                content = {"device": torch.cuda.get_device_name(), "tiles": found}
                (bench.report.folder / "tuned.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        pool.shutdown(cancel_futures=True)
    bench.note("tuned.json beside this report replaces kernels/triton/tuned.json" if found else "no search finished")


def _fits(tiles: Tiles) -> dict[str, Figure]:
    chosen = tuning.fitting("forward", "bf16", 64, (64, 64), [tiles], full=True)
    return {"fits": bool(chosen), "default": str(default_tiles("forward", 2, 64, 64, 64, full=True))}
