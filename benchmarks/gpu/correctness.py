"""Block 1: the block-sparse kernels on this GPU give what exact attention gives.

Checks that need nothing but torch and triton come first: types, block sizes and tiles of the table, ragged grids, and
150 k tokens × 32 heads, whose last rows lie past 2³¹ bytes. Then `tests/kernels` runs, where pytest is.
`tests/kernels/triton/gpu_cases.py` holds the same checks as tests.
"""

import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import pairwise, product
from multiprocessing import get_context
from os import cpu_count
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.machine import missing
from benchmarks.gpu.report import Figure
from reelwright.kernels import BlockGrid, BlockLists, BlockSparseCall, TopR, attend, block_grids, select_blocks
from reelwright.kernels.blocks import Triple
from reelwright.kernels.triton.tiles import KERNELS
from tests.kernels.oracle import block_of_token, dense, gradients, worst

SHAPES: dict[str, tuple[Triple, tuple[Triple, Triple]]] = {
    "full 64 x 64": ((8, 24, 24), ((4, 4, 4), (4, 4, 4))),
    "ragged 64 x 64": ((7, 22, 27), ((4, 4, 4), (4, 4, 4))),
    "full 128 x 1024": ((8, 32, 32), ((2, 8, 8), (4, 16, 16))),
    "ragged 128 x 1024": ((7, 27, 25), ((2, 8, 8), (4, 16, 16))),
    "full 128 x 128": ((8, 16, 24), ((4, 4, 8), (4, 4, 8))),
    "ragged 256 x 256": ((7, 18, 22), ((4, 8, 8), (4, 8, 8))),
}
"""Every size of blocks that the table of tiles has (`kernels.tools.tuning`), so that every tile of it runs."""
TOY = {"full 8 x 8": ((2, 4, 4), ((2, 2, 2), (2, 2, 2))), "ragged 8 x 8": ((3, 3, 5), ((2, 2, 2), (2, 2, 2)))}
LONG: Triple = (24, 60, 104)
Case = tuple[int, torch.dtype, tuple[str, tuple[Triple, tuple[Triple, Triple]]]]
Job = tuple[str, str, int, tuple[int, int], bool, int]
ROOM = {torch.float32: (2e-6, 1e-5)}
"""Largest errors of outputs and gradients, over the largest value; halves: twice dense attention's own."""


def run(bench: Bench) -> None:
    types = (torch.float32,) if bench.toy else (torch.bfloat16, torch.float16, torch.float32)
    shapes = TOY if bench.toy else SHAPES
    cases = list(product((8,) if bench.toy else (128, 64), types, shapes.items()))
    if bench.device.type == "cuda":
        bench.attempt("kernels compiled ahead, on all cores", lambda: _compile_ahead(bench, cases), needs_s=60)
    for i, (dim, dtype, (name, (grid, block))) in enumerate(cases):
        case = f"{name}, {str(dtype).removeprefix('torch.')}, D {dim}"
        bench.attempt(case, partial(errors, bench.device, grid, block, dtype, dim))
        if i == len(shapes) - 1:  # after the most used type
            long, heads = ((2, 4, 6), 2) if bench.toy else (LONG, 32)
            bench.attempt(f"{long}, {heads} heads, last rows", partial(last_rows, bench.device, long, heads))
    bench.attempt("dense attention of a ring", lambda: _pieces(bench.device), needs_s=5)
    if not bench.toy:
        for name, dtype in product(("full 64 x 64", "ragged 64 x 64"), (torch.bfloat16,)):
            bench.attempt(f"{name}, again", partial(repeated, bench.device, *SHAPES[name], dtype))
        _tests(bench)


def _compile_ahead(bench: Bench, cases: list[Case]) -> dict[str, Figure]:
    """Compile every kernel of the cases in processes beside one another; launches find them in Triton's cache."""
    began = time.monotonic()
    major, minor = torch.cuda.get_device_capability(bench.device)
    arch = 10 * major + minor
    jobs = {_job(kernel, dtype, dim, shape, arch) for dim, dtype, (_, shape) in cases for kernel in KERNELS}
    with ProcessPoolExecutor(cpu_count(), mp_context=get_context("spawn")) as pool:
        compiled = sum(pool.map(_compiled, sorted(jobs), timeout=max(10.0, bench.left_s - 60)))
    return {"kernels": len(jobs), "compiled": compiled, "seconds": time.monotonic() - began}


def _job(kernel: str, dtype: torch.dtype, dim: int, shape: tuple[Triple, tuple[Triple, Triple]], arch: int) -> Job:
    name = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}[dtype]
    grids = block_grids(shape[0], shape[0], shape[1])
    full = all(grid.count * grid.capacity == grid.tokens for grid in grids)
    return kernel, name, dim, (grids[0].capacity, grids[1].capacity), full, arch


def _compiled(job: Job) -> bool:
    from reelwright.kernels.tools.inspection import compiled

    kernel, dtype, dim, blocks, full, arch = job
    try:
        compiled(kernel, dtype, dim, blocks=blocks, full=full, arch=arch)
    except Exception:  # the launch will say it again, in its own case
        return False
    return True


def errors(
    device: torch.device, grid: Triple, block: tuple[Triple, Triple], dtype: torch.dtype, dim: int
) -> dict[str, Figure]:
    """Compare outputs and gradients with attention in fp64 under the mask of tokens.

    Returns:
        The worst errors of out, dq, dk, dv, what is allowed, and whether all are within.
    """
    torch.manual_seed(dim)
    grids = block_grids(grid, grid, block)
    q, k, v, grad = torch.randn(4, 1, 2, grids[0].tokens, dim, device=device).to(dtype)
    lists = select_blocks(q, k, *grids, TopR(1 / 3))
    mask = tokens_mask(lists, grids)
    exact = [dense(q, k, v, mask)[0], *gradients(q, k, v, mask, grad)]
    found = _passes((q, k, v), grad, grids, lists)
    if dtype in ROOM:
        rooms = [ROOM[dtype][0], *[ROOM[dtype][1]] * 3]
    else:
        leaves = [x.clone().requires_grad_() for x in (q, k, v)]
        out = torch.nn.functional.scaled_dot_product_attention(*leaves, attn_mask=mask)
        peers = [out, *torch.autograd.grad(out, leaves, grad)]
        rooms = [2 * worst(a, b) for a, b in zip(peers, exact, strict=True)]
    gaps = [worst(a, b) for a, b in zip(found, exact, strict=True)]
    return _verdict(gaps, rooms)


def last_rows(device: torch.device, grid: Triple, heads: int, dtype: torch.dtype = torch.bfloat16) -> dict[str, Figure]:
    """Compare the last query block and the last key block of the last head, which lie farthest in memory.

    Every query block sees two key blocks, itself and the last; the oracle needs those few rows alone.
    """
    torch.manual_seed(0)
    grids = block_grids(grid, grid, ((4, 4, 4), (4, 4, 4)))
    q, k, v, grad = (torch.randn(1, heads, grids[0].tokens, 128, device=device, dtype=dtype) for _ in range(4))
    count = grids[0].count
    own = torch.arange(count, dtype=torch.int32, device=device)
    last = torch.full_like(own, count - 1)
    counts = 1 + (own < last).to(torch.int32)
    lists = BlockLists(torch.stack((own, torch.where(own < last, last, -1)), -1)[None, None], counts[None, None])
    out, dq, dk, dv = _passes((q, k, v), grad, grids, lists)
    rows = slice(int(grids[0].offsets()[-2]), None)
    few = [x[:, -1:, rows] for x in (q, k, v, grad)]
    everything = torch.ones(few[0].shape[2], few[0].shape[2], dtype=torch.bool, device=device)
    exact = [dense(*few[:3], everything)[0], gradients(*few[:3], everything, few[3])[0]]
    seen = [x[:, -1:] for x in (q, k, v, grad)]  # of the last key block, every query sees it
    exact += _last_keys(*seen, grids[0], rows)
    gaps = [worst(x[:, -1:, rows], y) for x, y in zip((out, dq, dk, dv), exact, strict=True)]
    return {"tokens": grids[0].tokens, **_verdict(gaps, [2e-2] * 4)}


def _pieces(device: torch.device) -> dict[str, Figure]:
    """Name the kernel that a ring's pieces take here, which is one that a trial found right."""
    from reelwright.training.distributed.partial_attention import piece_backend, whole_backend

    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    chosen = piece_backend(device, dtype, 128)
    whole = whole_backend(device, dtype, 128) if device.type == "cuda" else chosen
    return {"ring": chosen, "whole": whole, "right": chosen != "plain"}


def _last_keys(q: Tensor, k: Tensor, v: Tensor, grad: Tensor, grid: BlockGrid, rows: slice) -> list[Tensor]:
    """Return dk and dv of the last key block, [1, 1, rows, D] in fp64, some query blocks at a time."""
    ends = grid.offsets().tolist()
    keys, values = k[:, :, rows].double(), v[:, :, rows].double()
    dk, dv = torch.zeros_like(keys), torch.zeros_like(values)
    scale = q.shape[-1] ** -0.5
    for begin, end in pairwise(ends):
        here, g = q[:, :, begin:end].double(), grad[:, :, begin:end].double()
        is_last = end == ends[-1]
        both_k = keys if is_last else torch.cat((k[:, :, begin:end].double(), keys), 2)
        both_v = values if is_last else torch.cat((v[:, :, begin:end].double(), values), 2)
        p = (here @ both_k.mT * scale).softmax(-1)
        dp = g @ both_v.mT
        ds = p * (dp - (dp * p).sum(-1, keepdim=True))
        dk += ds[..., -keys.shape[2] :].mT @ here * scale
        dv += p[..., -keys.shape[2] :].mT @ g
    return [dk, dv]


def repeated(device: torch.device, grid: Triple, block: tuple[Triple, Triple], dtype: torch.dtype) -> dict[str, Figure]:
    """Compute twice: the same bit for bit, as nothing is added atomically."""
    grids = block_grids(grid, grid, block)
    q, k, v, grad = torch.randn(4, 1, 2, grids[0].tokens, 128, device=device).to(dtype)
    lists = select_blocks(q, k, *grids, TopR(1 / 3))
    runs = [_passes((q, k, v), grad, grids, lists) for _ in range(2)]
    return {"alike": all(map(torch.equal, *runs))}


def tokens_mask(lists: BlockLists, grids: tuple[BlockGrid, BlockGrid]) -> Tensor:
    """Return bool [B, heads, Nq, Nk], tokens in block order."""
    device = lists.counts.device
    owners = [block_of_token(grid)[grid.order()].to(device) for grid in grids]
    return lists.mask(grids[1].count)[..., owners[0], :][..., owners[1]]


def _passes(
    tensors: tuple[Tensor, ...], grad: Tensor, grids: tuple[BlockGrid, BlockGrid], lists: BlockLists
) -> list[Tensor]:
    """Return out, dq, dk, dv, by Triton on a GPU."""
    leaves, scale = [x.detach().requires_grad_() for x in tensors], grad.shape[-1] ** -0.5
    out, _ = attend(*leaves, BlockSparseCall.of(lists, *grids, scale=scale))
    return [out.detach(), *torch.autograd.grad(out, leaves, grad)]


def _verdict(gaps: list[float], rooms: list[float]) -> dict[str, Figure]:
    named = dict(zip(("out", "dq", "dk", "dv"), gaps, strict=True))
    return {**named, "allowed_out": rooms[0], "allowed_grad": min(rooms[1:]),
            "right": all(a <= b for a, b in zip(gaps, rooms, strict=True))}  # fmt: skip


def _tests(bench: Bench) -> None:
    """Run the tests of the kernels that this GPU runs compiled, as long as the time box lasts."""
    if lacking := missing(("pytest", "hypothesis")):
        bench.note(f"tests/kernels left out: {' and '.join(lacking)} missing")
        return
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "pytest", "tests/kernels/triton/test_triton.py", "-q", "-p", "no:cacheprovider",
               "-p", "no:xdist", "-m", "not exhaustive", "-k", "not interpreter", "--noconftest"]  # fmt: skip
    try:
        seconds = max(5, bench.left_s - 3)
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=seconds, check=False)
        said = done.stdout.strip().splitlines()
        failed = [line for line in said if line.startswith("FAILED")]
        bench.add("tests/kernels", ended=said[-1] if said else "nothing said", status=done.returncode)
        for line in failed[:20]:
            bench.note(line[:400])
    except subprocess.TimeoutExpired as error:
        tail = (error.stdout or b"")[-300:]
        bench.note(f"tests/kernels: not done when the time box ended; {tail.decode(errors='replace')}")
