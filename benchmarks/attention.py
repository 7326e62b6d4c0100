"""Block-sparse attention against dense and FlexAttention: `python -m benchmarks.attention --device cpu|cuda`.

For each number of tokens and share of blocks left out, in one run: selection, permutation and the attention alone, all
together, and with the backward pass; PyTorch's scaled_dot_product_attention by its fastest backend; FlexAttention on
the same block mask (no backward pass on a CPU). Milliseconds are medians, taken in turns. TFLOP/s of forward passes
count 4 · B · H · D · kept pairs; `×` is dense attention's time over ours with everything included.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from kernels import (
    BlockGrid,
    BlockLists,
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
Run = Callable[[], Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--tokens", type=int, nargs="+", choices=list(GRIDS), help="default: all; the first two on cpu")
    parser.add_argument("--sparsity", type=float, nargs="+", default=SPARSITIES)
    parser.add_argument("--heads", type=int, help="default: 16 on cuda, 2 on cpu")
    parser.add_argument("--block", default="4x4x4", help="of queries and keys, or QUERIES:KEYS")
    parser.add_argument("--repeats", type=int, help="default: 10 on cuda, 3 on cpu")
    parser.add_argument("--forward", action="store_true", help="forward passes alone")
    parser.add_argument("--no-flex", action="store_true", help="leave FlexAttention out")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.exit(2, "no CUDA device here: nothing was measured\n")
    on_gpu = options.device == "cuda"
    dtype, name = (torch.bfloat16, torch.cuda.get_device_name()) if on_gpu else (torch.float32, "CPU")
    print(f"{name}, {torch.get_num_threads()} threads, {dtype}, D = {DIM}, blocks {options.block}, milliseconds\n")
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
    for tokens in options.tokens or (list(GRIDS) if on_gpu else [8192, 16384]):
        grids = block_grids(GRIDS[tokens], GRIDS[tokens], _blocks(options.block))
        torch.manual_seed(0)
        shape = (4, 1, options.heads or (16 if on_gpu else 2), tokens, DIM)
        tensors = [x.to(dtype).requires_grad_() for x in torch.randn(shape, device=options.device)]
        for sparsity in options.sparsity:
            runs = _runs(tensors, grids, sparsity, flex=not options.no_flex)
            if options.forward:
                runs = {name: run for name, run in runs.items() if " b" not in name}
            _row(tokens, sparsity, tensors[0], grids, _time(runs, options.repeats or (10 if on_gpu else 3), on_gpu))


COLUMNS = (
    "tokens", "left out", "selection", "permutation", "attention", "forward", "fwd + bwd", "TFLOP/s", "dense",
    "dense f + b", "dense TFLOP/s", "Flex", "Flex f + b", "× forward", "× fwd + bwd",
)  # fmt: skip


def _runs(tensors: list[Tensor], grids: tuple[BlockGrid, BlockGrid], sparsity: float, *, flex: bool) -> dict[str, Run]:
    """What is timed, by name; f is a forward pass without gradients, b both passes."""
    q, k, v = (x.detach() for x in tensors[:3])
    rule, of = TopR(1 - sparsity), {"grid_q": grids[0].grid, "grid_k": grids[1].grid}
    block: Any = (grids[0].block, grids[1].block)
    ordered = [put_in_order(x, grids[i]) for x, i in ((q, 0), (k, 1), (v, 1))]
    lists = select_blocks(ordered[0], ordered[1], *grids, rule)
    runs: dict[str, Run] = {
        "select": lambda: select_blocks(ordered[0], ordered[1], *grids, rule),
        "permute": lambda: [put_in_order(x, grids[0]) for x in (q, k, v, v)],
        "attend": lambda: attend(*ordered, lists, *grids, scale=DIM**-0.5),
        "ours f": lambda: block_sparse_attention(q, k, v, **of, block=block, select=rule),
        "ours b": _both(lambda *x: block_sparse_attention(*x, **of, block=block, select=rule), tensors),
    }
    for backend in _backends(q):
        runs[f"dense f {backend}"] = lambda b=backend: _dense(b, q, k, v)
        runs[f"dense b {backend}"] = _both(lambda *x, b=backend: _dense(b, *x), tensors)
    return runs | (_flex(ordered, tensors, lists, grids) if flex else {})


def _both(attention: Callable[..., Tensor], tensors: list[Tensor]) -> Run:
    *leaves, grad = tensors
    return lambda: torch.autograd.grad(attention(*leaves), leaves, grad.detach())


def _backends(q: Tensor) -> list[str]:
    return ["CUDNN_ATTENTION", "FLASH_ATTENTION"] if q.is_cuda else [""]


def _dense(backend: str, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel(getattr(SDPBackend, backend)) if backend else nullcontext():
        return F.scaled_dot_product_attention(q, k, v)


def _flex(
    ordered: list[Tensor], tensors: list[Tensor], lists: BlockLists, grids: tuple[BlockGrid, BlockGrid]
) -> dict[str, Run]:
    from torch.nn.attention.flex_attention import flex_attention

    compiled, mask = torch.compile(flex_attention), _flex_mask(lists, *grids, ordered[0].device)
    runs: dict[str, Run] = {"flex f": lambda: compiled(*ordered, block_mask=mask)}
    if ordered[0].is_cuda:
        runs["flex b"] = _both(lambda *x: compiled(*x, block_mask=mask), tensors)
    return runs


def _flex_mask(lists: BlockLists, grid_q: BlockGrid, grid_k: BlockGrid, device: torch.device) -> Any:
    """Whole blocks where they are alike; else a mask of tokens, whose blocks Flex finds by itself."""
    from torch.nn.attention.flex_attention import BlockMask, create_block_mask

    kept = lists.mask(grid_k.count)
    if all(g.count * g.capacity == g.tokens for g in (grid_q, grid_k)):
        order = (~kept).to(torch.int8).argsort(dim=-1, stable=True).to(torch.int32)
        none = torch.zeros_like(lists.counts)
        sizes = (grid_q.capacity, grid_k.capacity)
        return BlockMask.from_kv_blocks(none, torch.zeros_like(order), lists.counts, order, BLOCK_SIZE=sizes)
    owner_q, owner_k = (
        torch.arange(g.count, device=device).repeat_interleave(g.offsets(device).diff()) for g in (grid_q, grid_k)
    )
    batch, heads = kept.shape[:2]
    return create_block_mask(
        lambda b, h, i, j: kept[b, h, owner_q[i], owner_k[j]], batch, heads, grid_q.tokens, grid_k.tokens, device=device
    )


def _time(runs: dict[str, Run], repeats: int, on_gpu: bool) -> dict[str, float]:
    """Median milliseconds of each, in turns; what cannot run here is said and left out."""
    times: dict[str, list[float]] = {}
    for name, run in list(_that_work(runs)):
        times[name] = []
        runs[name] = run
    for _ in range(repeats):
        for name, taken in times.items():
            start = _now(on_gpu)
            runs[name]()
            taken.append(1000 * (_now(on_gpu) - start))
    return {name: statistics.median(taken) for name, taken in times.items()}


def _that_work(runs: dict[str, Run]) -> Iterator[tuple[str, Run]]:
    for name, run in runs.items():
        try:
            run()
        except (RuntimeError, NotImplementedError) as reason:
            print(f"<!-- {name}: {str(reason).splitlines()[0][:120]} -->")
        else:
            yield name, run


def _now(on_gpu: bool) -> float:
    if on_gpu:
        torch.cuda.synchronize()
    return time.perf_counter()


def _row(tokens: int, sparsity: float, q: Tensor, grids: tuple[BlockGrid, BlockGrid], ms: dict[str, float]) -> None:
    best = {kind: _least(ms, f"dense {kind}") for kind in "fb"}
    lists = select_blocks(*(put_in_order(q.detach(), g) for g in grids), *grids, TopR(1 - sparsity))
    pairs = _pairs(lists, *grids)
    work = 4 * DIM * pairs / 1e9  # of a forward pass; milliseconds to TFLOP/s
    full = 4 * DIM * q.shape[1] * tokens**2 / 1e9
    cells = [str(tokens), f"{100 * sparsity:g} %"]
    cells += [_cell(ms, name) for name in ("select", "permute", "attend", "ours f", "ours b")]
    cells += [f"{work / ms['attend']:.2f}", _number(best["f"]), _number(best["b"]), f"{full / best['f']:.2f}"]
    cells += [_cell(ms, "flex f"), _cell(ms, "flex b")]
    cells += [f"{best['f'] / ms['ours f']:.1f}"]
    cells += [f"{best['b'] / ms['ours b']:.1f}" if "ours b" in ms else "–"]
    print("| " + " | ".join(cells) + " |", flush=True)


def _least(ms: dict[str, float], start: str) -> float:
    return min((taken for name, taken in ms.items() if name.startswith(start)), default=math.nan)


def _cell(ms: dict[str, float], name: str) -> str:
    return _number(ms.get(name, math.nan))


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4g}"


def _pairs(lists: BlockLists, grid_q: BlockGrid, grid_k: BlockGrid) -> int:
    """Query-key pairs that are kept, over all heads."""
    device = lists.counts.device
    lengths_q, lengths_k = (g.offsets(device).diff().double() for g in (grid_q, grid_k))
    return int(((lists.mask(grid_k.count).double() @ lengths_k) * lengths_q).sum())


def _blocks(text: str) -> Any:
    sides = tuple(tuple(map(int, side.split("x"))) for side in text.split(":"))
    return sides if len(sides) == 2 else sides[0]


if __name__ == "__main__":
    main()
