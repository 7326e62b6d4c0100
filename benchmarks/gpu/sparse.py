"""Block 2: block-sparse attention, forward and backward, at 480p × 93 frames, against everything that is here.

TFLOP/s count the kept pairs: 4 · B · H · D of a forward pass, 2.5 times as many of a backward pass. Ratios are to the
faster of PyTorch's dense kernels. The bars are FastVideo's kernel (its report, H100, 90 % left out): 8.1 times dense
forward, 5.7 times backward.
"""

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import torch
from torch import Tensor

from benchmarks.attention import BARS, DIM, pairs
from benchmarks.attention_peers import both, dense_kernels, flex_runs, other_runs
from benchmarks.gpu.bench import Bench
from benchmarks.gpu.machine import peak_tflops
from benchmarks.gpu.report import Figure
from reelwright.kernels import (
    BlockGrid,
    BlockSparseCall,
    TopR,
    attend,
    block_grids,
    block_sparse_attention,
    select_blocks,
)
from reelwright.kernels.blocks import Triple

GRIDS: tuple[Triple, ...] = ((24, 30, 52), (28, 28, 52))
"""37,440 tokens, ragged in blocks of 4 × 4 × 4, and 40,768, full."""
BLOCKS: tuple[tuple[Triple, Triple], ...] = (
    ((4, 4, 4), (4, 4, 4)), ((2, 8, 8), (4, 16, 16)), ((4, 4, 8), (4, 4, 4)), ((4, 4, 8), (4, 4, 8)),
)  # fmt: skip
"""The recipes' default, the report's fastest, 64-token blocks of queries in pairs, 128 × 128 (docs/kernels.md)."""
Runs = dict[str, Callable[[], Any]]


def run(bench: Bench) -> None:
    grids = ((2, 4, 4),) if bench.toy else GRIDS
    heads = (1,) if bench.toy else (16, 32)
    for grid, count in product(grids, heads):
        q, k, v, grad = _tensors(bench, grid, count)
        dense = _dense(bench, (q, k, v, grad))
        blocks = (((2, 2, 2), (2, 2, 2)), ((2, 2, 4), (2, 2, 2))) if bench.toy else BLOCKS
        for sparsity, block in product((0.9, 0.9375), blocks):
            case = f"{math.prod(grid)} tokens, {count} heads, {block[0]} : {block[1]}, {100 * sparsity:g} %"
            problem = (q, k, v, grad), block_grids(grid, grid, block), sparsity
            bench.attempt(case, lambda p=problem, d=dense: _row(bench, *p, d), needs_s=3)
        if (grid, count) == (grids[-1], heads[0]):  # full blocks, which the others' kernels ask for
            _peers(bench, (q, k, v, grad), grid, dense)
    bench.note(BARS)


def _tensors(bench: Bench, grid: Triple, heads: int) -> list[Tensor]:
    torch.manual_seed(0)
    dtype = torch.float32 if bench.toy else torch.bfloat16
    shape = (4, 1, heads, math.prod(grid), 16 if bench.toy else DIM)
    return [x.clone().requires_grad_() for x in torch.randn(shape, device=bench.device).to(dtype)]


def _row(
    bench: Bench, tensors: tuple[Tensor, ...], grids: tuple[BlockGrid, BlockGrid], sparsity: float,
    dense: dict[str, float],
) -> dict[str, Figure]:  # fmt: skip
    q, k, v, grad = tensors
    plain = [x.detach() for x in (q, k, v)]
    rule = TopR(1 - sparsity)
    lists = select_blocks(*plain[:2], *grids, rule)
    call = BlockSparseCall.of(lists, *grids, scale=q.shape[-1] ** -0.5)
    work = 4 * q.shape[-1] * pairs(lists, *grids) / 1e9
    sizes: Any = {"grid_q": grids[0].grid, "grid_k": grids[1].grid, "block": (grids[0].block, grids[1].block)}

    def inside(*x: Tensor) -> Tensor:
        return block_sparse_attention(*x, **sizes, select=rule, in_block_order=True)

    ms = {
        "select": bench.milliseconds(lambda: select_blocks(*plain[:2], *grids, rule)),
        "forward": bench.milliseconds(lambda: attend(*plain, call)),
        "backward": bench.milliseconds(backward_of(lambda *x: attend(*x, call)[0], (q, k, v), grad)),
        "with selection f": bench.milliseconds(lambda: inside(*plain)),
        "with selection f + b": bench.milliseconds(both(inside, [q, k, v, grad])),
    }
    peak = peak_tflops()
    speed = {"forward": work / ms["forward"], "backward": 2.5 * work / ms["backward"]}
    return {
        **{f"{name}_ms": taken for name, taken in ms.items()},
        **{f"{name}_tflops": rate for name, rate in speed.items()},
        **{f"{name}_of_peak": rate / peak if peak else None for name, rate in speed.items()},
        "× dense forward": dense["forward"] / ms["forward"],
        "× dense backward": dense["backward"] / ms["backward"],
        "× dense f + b, with selection": (dense["forward"] + dense["backward"]) / ms["with selection f + b"],
    }


def backward_of(attention: Callable[..., Tensor], leaves: tuple[Tensor, ...], grad: Tensor) -> Callable[[], Any]:
    """Return a run of the backward pass alone, over one forward pass that is kept."""
    out = attention(*leaves)
    return lambda: torch.autograd.grad(out, leaves, grad.detach(), retain_graph=True)


def _dense(bench: Bench, tensors: tuple[Tensor, ...]) -> dict[str, float]:
    """Time PyTorch's dense kernels; return the fastest of each pass, a row for each."""
    fastest = {"forward": math.inf, "backward": math.inf}
    for name, attention in dense_kernels(bench.device.type == "cuda").items():

        def measure(attention: Callable[..., Tensor] = attention) -> dict[str, Figure]:
            leaves = tensors[:3]
            taken = {
                "forward": bench.milliseconds(lambda: attention(*(x.detach() for x in leaves))),
                "backward": bench.milliseconds(backward_of(attention, leaves, tensors[3])),
            }
            for kind, ms in taken.items():
                fastest[kind] = min(fastest[kind], ms)
            work = 4 * tensors[0].numel() * tensors[0].shape[2] / 1e9
            return {
                **{f"{kind}_ms": ms for kind, ms in taken.items()},
                "forward_tflops": work / taken["forward"], "backward_tflops": 2.5 * work / taken["backward"],
            }  # fmt: skip

        bench.attempt(f"{tensors[0].shape[2]} tokens, {tensors[0].shape[1]} heads, dense {name or 'CPU'}", measure)
    return fastest


def _peers(bench: Bench, tensors: tuple[Tensor, ...], grid: Triple, dense: dict[str, float]) -> None:
    """Time FlexAttention and other libraries' block-sparse kernels on the same blocks, 64 × 64 at 90 %."""
    block: Triple = (2, 2, 2) if bench.toy else (4, 4, 4)
    grids = block_grids(grid, grid, block)
    lists = select_blocks(tensors[0].detach(), tensors[1].detach(), *grids, TopR(0.1))
    work = 4 * tensors[0].shape[-1] * pairs(lists, *grids) / 1e9
    peers = flex_runs(list(tensors), lists, grids, plain_torch=bench.toy) | other_runs(list(tensors), lists, grids)
    for name, peer in peers.items():

        def measure(run: Callable[[], Any] = peer, name: str = name) -> dict[str, Figure]:
            ms = bench.milliseconds(run)
            base = dense["forward"] + (0 if name.endswith(" f") else dense["backward"])
            return {"ms": ms, "tflops": work * (1 if name.endswith(" f") else 3.5) / ms, "× dense": base / ms}

        bench.attempt(f"{grids[0].tokens} tokens, 64 x 64, 90 %, {name}", measure, needs_s=25 if "flex" in name else 5)
