"""The Triton kernels compiled, where there is a GPU (imported by test_triton.py): what the interpreter cannot show.

bf16, which the interpreter gets wrong; sizes it is too slow for; races; the compiler of graphs.
"""

import pytest
import torch

from benchmarks.gpu.correctness import LONG, SHAPES, errors, last_rows
from reelwright.kernels import (
    CDF,
    BlockLists,
    BlockSparseCall,
    TopR,
    attend,
    block_grids,
    block_sparse_attention,
    select_blocks,
)
from reelwright.kernels.operator import block_sparse, block_sparse_backward, block_sparse_delta

DEVICE, BACKEND = "cuda", "triton"
DTYPES = [torch.bfloat16, torch.float16, torch.float32]


def problem(shape, dtype, dim):
    """q, k, v and a gradient in block order, both grids, and lists of a third of the keys."""
    torch.manual_seed(dim)
    grid, block = SHAPES[shape]
    grids = block_grids(grid, grid, block)
    q, k, v, grad = torch.randn(4, 1, 2, grids[0].tokens, dim, device=DEVICE).to(dtype)
    return (q, k, v, grad), grids, select_blocks(q, k, *grids, TopR(1 / 3))


def passes(tensors, grids, lists):
    leaves, scale = [x.detach().requires_grad_() for x in tensors[:3]], tensors[0].shape[-1] ** -0.5
    out, _ = attend(*leaves, BlockSparseCall.of(lists, *grids, scale=scale, backend=BACKEND))
    return [out, *torch.autograd.grad(out, leaves, tensors[3])]


@pytest.mark.parametrize("dim", [64, 96, 128])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_compiled_kernels_are_as_exact_as_dense_attention(shape, dtype, dim):
    """Halves within twice the error of dense attention in their type; fp32 within 2e-6 and 1e-5."""
    found = errors(torch.device(DEVICE), *SHAPES[shape], dtype, dim)
    assert found["right"], found


def test_the_last_rows_of_150_k_tokens_and_32_heads_are_right():
    """They lie past what 32 bits count."""
    found = last_rows(torch.device(DEVICE), LONG, 32)
    assert found["right"], found


@pytest.mark.parametrize("shape", SHAPES)
def test_compiled_kernels_give_the_same_bit_for_bit(shape):
    tensors, grids, lists = problem(shape, torch.bfloat16, 128)
    assert all(map(torch.equal, passes(tensors, grids, lists), passes(tensors, grids, lists)))


def test_the_operators_pass_opcheck_with_triton():
    (q, k, v, grad), grids, lists = problem("ragged 64 x 64", torch.bfloat16, 64)
    leaves = [x.requires_grad_() for x in (q, k, v)]
    call = BlockSparseCall.of(lists, *grids, scale=0.1, backend=BACKEND)
    torch.library.opcheck(block_sparse, (*leaves, *call))
    with torch.no_grad():
        out, lse = block_sparse(q, k, v, *call)
        delta = block_sparse_delta(grad, out, BACKEND)
    torch.library.opcheck(block_sparse_delta, (grad, out, BACKEND))
    torch.library.opcheck(block_sparse_backward, (grad, delta, *(x.detach() for x in (q, k, v)), lse, *call))


@pytest.mark.parametrize(("select", "cond_frames"), [(TopR(0.25), 0), (CDF(0.5), 2)])
def test_the_whole_compiles_by_inductor(select, cond_frames):
    torch.manual_seed(0)
    leaves = [torch.randn(1, 2, 7 * 9 * 10, 64, device=DEVICE, dtype=torch.bfloat16, requires_grad=True) for _ in "qkv"]
    options = {"grid_q": (7, 9, 10), "grid_k": (7, 9, 10), "select": select, "cond_frames": cond_frames}

    def run(q, k, v):
        return block_sparse_attention(q, k, v, backend=BACKEND, **options)

    found, expected = torch.compile(run, fullgraph=True)(*leaves), run(*leaves)
    assert torch.equal(found, expected)
    grads = [torch.autograd.grad(out.float().square().sum(), leaves) for out in (found, expected)]
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_there_may_be_more_heads_than_a_grid_s_second_axis_takes():
    heads = 65_536 + 3
    q, k, v = torch.randn(3, 1, heads, 16, 16, device=DEVICE, dtype=torch.float16)
    grid = {"grid_q": (1, 4, 4), "grid_k": (1, 4, 4), "block": (1, 4, 4)}
    lists = BlockLists.of_mask(torch.ones(1, 1, dtype=torch.bool, device=DEVICE))
    found = block_sparse_attention(q, k, v, select=lists, backend=BACKEND, **grid)
    torch.testing.assert_close(found, torch.nn.functional.scaled_dot_product_attention(q, k, v), rtol=1e-2, atol=1e-2)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU")
def test_they_run_where_the_tensors_are():
    q = torch.randn(1, 1, 64, 64, device="cuda:1", dtype=torch.bfloat16)
    options = {"grid_q": (4, 4, 4), "grid_k": (4, 4, 4), "block": (2, 4, 4), "select": TopR(1)}
    with torch.cuda.device(0):
        found = block_sparse_attention(q, q, q, backend="triton", **options)
    torch.testing.assert_close(found, block_sparse_attention(q, q, q, backend="torch", **options), rtol=1e-2, atol=1e-2)
