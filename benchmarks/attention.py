"""Block-sparse attention against dense and FlexAttention: `python -m benchmarks.attention --device cpu|cuda`.

For each number of tokens and share of blocks left out, in one run: selection, permutation and the attention alone,
all together, all but the permutation ("in order", as in a network that permutes once), and with the backward pass;
PyTorch's scaled_dot_product_attention by its fastest backend, and FlashAttention alone, once for each number of tokens;
FlexAttention on the same block mask (no backward pass on a CPU). Milliseconds are medians of runs taken in turns; with
several repeats one more run goes first, uncounted. TFLOP/s of forward passes count 4 · B · H · D · kept pairs; `×` is
dense attention's time over ours, selection included. A row is printed as soon as it is measured. A failure is printed,
its cell says `failed`, and the command's status is 1.

One long row on a CPU, in some ten minutes: --tokens 149760 --heads 1 --repeats 1 --sparsity 0.9375
"""

import argparse
import math
import statistics
import sys
import time
from typing import Any

import torch
from torch import Tensor

from benchmarks.attention_peers import Run, both, dense_runs, flex_runs
from reelwright.kernels import (
    BlockGrid,
    BlockLists,
    BlockSparseCall,
    TopR,
    attend,
    block_grids,
    block_sparse_attention,
    put_in_order,
    select_blocks,
)

GRIDS = {
    8192: (8, 32, 32),
    16384: (16, 32, 32),
    32768: (32, 32, 32),
    37440: (24, 30, 52),  # 480p × 93 frames
    149760: (24, 60, 104),  # between 720p × 93 (86,400) and 720p × 189 (172,800)
}
DIM = 128
SPARSITIES = (0.5, 0.75, 0.875, 0.9375)
BARS = "to beat, at 90 % on an H100: FastVideo's kernel, 8.1 × dense forward, 5.7 × dense backward (its own report)"
COLUMNS = (
    "tokens", "left out", "selection", "permutation", "attention", "attention f + b", "forward", "fwd + bwd",
    "in order", "in order f + b", "TFLOP/s", "dense", "dense f + b", "Flash", "Flash f + b", "Flash TFLOP/s", "Flex",
    "Flex f + b", "× forward", "× fwd + bwd", "× in order", "× in order f + b", "TFLOP/s of Flash's",
)  # fmt: skip


def main() -> int:
    options = _options()
    on_gpu = options.device == "cuda"
    dtype, name = (torch.bfloat16, torch.cuda.get_device_name()) if on_gpu else (torch.float32, "CPU")
    print(f"{name}, {torch.get_num_threads()} threads, {dtype}, D = {DIM}, blocks {options.block}, milliseconds\n")
    if on_gpu:
        print(BARS + "\n")
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS), flush=True)
    failed = False
    for grid in options.grid or [GRIDS[n] for n in options.tokens or (GRIDS if on_gpu else [8192, 16384])]:
        grids = block_grids(grid, grid, _blocks(options.block))
        torch.manual_seed(0)
        torch._dynamo.reset()  # FlexAttention is compiled for each size; past eight PyTorch would compile no more
        shape = (4, 1, options.heads or (16 if on_gpu else 2), grids[0].tokens, DIM)
        tensors = [x.to(dtype).requires_grad_() for x in torch.randn(shape, device=options.device)]
        dense = {} if options.no_dense else _time(_wanted(dense_runs(tensors), options), options)
        for sparsity in options.sparsity:
            lists = select_blocks(tensors[0].detach(), tensors[1].detach(), *grids, TopR(1 - sparsity))
            runs = _runs(tensors, grids, lists, sparsity)
            runs |= {} if options.no_flex else flex_runs(tensors, lists, grids)
            ms = dense | _time(_wanted(runs, options), options)
            print("| " + " | ".join(_cells(sparsity, tensors[0], grids, lists, ms)) + " |", flush=True)
            failed |= math.inf in ms.values()
    return int(failed)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--tokens", type=int, nargs="+", choices=list(GRIDS), help="default: all; the first two on cpu")
    sizes.add_argument("--grid", type=_triple, nargs="+", help="other sizes: FRAMESxROWSxCOLUMNS of tokens")
    parser.add_argument("--sparsity", type=float, nargs="+", help="default: 0.5 to 0.9375; 0.9 too on cuda")
    parser.add_argument("--heads", type=int, help="default: 16 on cuda, 2 on cpu")
    parser.add_argument("--block", default="4x4x4", help="of queries and keys, or QUERIES:KEYS")
    parser.add_argument("--repeats", type=int, help="default: 10 on cuda, 3 on cpu")
    parser.add_argument("--forward", action="store_true", help="forward passes alone")
    parser.add_argument("--no-flex", action="store_true", help="leave FlexAttention out")
    parser.add_argument("--no-dense", action="store_true", help="leave dense attention, and the ratios to it, out")
    options = parser.parse_args()
    options.sparsity = options.sparsity or (sorted({*SPARSITIES, 0.9}) if options.device == "cuda" else SPARSITIES)
    options.repeats = options.repeats or (10 if options.device == "cuda" else 3)
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.exit(2, "no CUDA device here: nothing was measured\n")
    return options


def _runs(
    tensors: list[Tensor], grids: tuple[BlockGrid, BlockGrid], lists: BlockLists, sparsity: float
) -> dict[str, Run]:
    """Return our runs by name; f is a forward pass without gradients, b both passes.

    Args:
        tensors: q, k, v and a gradient, [1, heads, N, D]. "attend" and "ordered" take them as if in block order.
        grids: the queries' and the keys' blocks.
        lists: for tensors in block order.
        sparsity: share of blocks left out.
    """
    q, k, v = (x.detach() for x in tensors[:3])
    rule = TopR(1 - sparsity)
    call = BlockSparseCall.of(lists, *grids, scale=DIM**-0.5)
    of: Any = {"grid_q": grids[0].grid, "grid_k": grids[1].grid, "block": (grids[0].block, grids[1].block)}

    def alone(*x: Tensor) -> Tensor:
        return attend(*x, call)[0]

    def whole(*x: Tensor, in_block_order: bool = False) -> Tensor:
        return block_sparse_attention(*x, **of, select=rule, in_block_order=in_block_order)

    return {
        "select": lambda: select_blocks(q, k, *grids, rule),
        "permute": lambda: [put_in_order(x, grids[0]) for x in (q, k, v, v)],
        "attend f": lambda: alone(q, k, v),
        "attend b": both(alone, tensors),
        "ours f": lambda: whole(q, k, v),
        "ours b": both(whole, tensors),
        "ordered f": lambda: whole(q, k, v, in_block_order=True),
        "ordered b": both(lambda *x: whole(*x, in_block_order=True), tensors),
    }


def _wanted(runs: dict[str, Run], options: argparse.Namespace) -> dict[str, Run]:
    return {name: run for name, run in runs.items() if not (options.forward and " b" in name)}


def _time(runs: dict[str, Run], options: argparse.Namespace) -> dict[str, float]:
    """Return the median milliseconds of each run, taken in turns; infinity for a failure, which is printed."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    failed: dict[str, float] = {}
    compiled = {"flex f", "flex b"}  # once for its compiler, whatever is repeated
    for turn in range(-1, options.repeats):
        for name, taken in times.items():
            if name in failed or (turn < 0 and options.repeats == 1 and name not in compiled):
                continue
            try:
                start = _now(options.device)
                runs[name]()
                if turn >= 0:
                    taken.append(1000 * (_now(options.device) - start))
            except Exception as error:  # one failure must not cost the other measurements
                failed[name] = math.inf
                print(f"FAILED {name}: {type(error).__name__}: {str(error)[:600]}", file=sys.stderr, flush=True)
    return {name: statistics.median(taken) for name, taken in times.items() if name not in failed} | failed


def _now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _cells(
    sparsity: float, q: Tensor, grids: tuple[BlockGrid, BlockGrid], lists: BlockLists, ms: dict[str, float]
) -> list[str]:
    """Return a row's cells, in the order of COLUMNS."""
    tokens, best = q.shape[2], {kind: _least(ms, f"dense {kind}") for kind in "fb"}
    flash = {kind: ms.get(f"dense {kind} FLASH_ATTENTION", math.nan) for kind in "fb"}
    work = 4 * DIM * pairs(lists, *grids) / 1e9  # of a forward pass; milliseconds to TFLOP/s
    speed = work / ms["attend f"], 4 * DIM * q.shape[0] * q.shape[1] * tokens**2 / 1e9 / flash["f"]
    names = ("select", "permute", "attend f", "attend b", "ours f", "ours b", "ordered f", "ordered b")
    cells = [str(tokens), f"{100 * sparsity:g} %"]
    cells += [_number(ms.get(name, math.nan)) for name in names] + [f"{speed[0]:.2f}"]
    cells += [_number(x) for x in (best["f"], best["b"], flash["f"], flash["b"], speed[1])]
    cells += [_number(ms.get(name, math.nan)) for name in ("flex f", "flex b")]
    cells += [_times(best[name[-1]], ms.get(name, math.nan)) for name in ("ours f", "ours b", "ordered f", "ordered b")]
    share = speed[0] / speed[1]
    return [*cells, "–" if math.isnan(share) else f"{100 * share:.0f} %"]


def _least(ms: dict[str, float], start: str) -> float:
    return min((taken for name, taken in ms.items() if name.startswith(start)), default=math.nan)


def _number(value: float) -> str:
    return "failed" if math.isinf(value) else "–" if math.isnan(value) else f"{value:.4g}"


def _times(dense: float, ours: float) -> str:
    return f"{dense / ours:.1f}" if math.isfinite(dense) and math.isfinite(ours) else "–"


def pairs(lists: BlockLists, grid_q: BlockGrid, grid_k: BlockGrid) -> int:
    """Count the query-key pairs that are kept, over all heads."""
    device = lists.counts.device
    lengths_q, lengths_k = (g.offsets(device).diff().double() for g in (grid_q, grid_k))
    return int(((lists.mask(grid_k.count).double() @ lengths_k) * lengths_q).sum())


def _triple(text: str) -> tuple[int, int, int]:
    frames, rows, columns = map(int, text.split("x"))
    return frames, rows, columns


def _blocks(text: str) -> Any:
    sides = tuple(_triple(side) for side in text.split(":"))
    return sides if len(sides) == 2 else sides[0]


if __name__ == "__main__":
    sys.exit(main())
