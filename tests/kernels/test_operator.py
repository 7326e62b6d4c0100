"""As an operator of PyTorch: opcheck, torch.compile, checkpointing, autocast."""

from functools import partial

import pytest
import torch
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

from reelwright.kernels import CDF, BlockSparseCall, TopR, attend, block_grids, block_sparse_attention, select_blocks
from reelwright.kernels.call import lse_dtype
from reelwright.kernels.operator import block_sparse, block_sparse_backward, block_sparse_delta, choose_backend
from reelwright.kernels.ranking import best_blocks
from reelwright.kernels.selection import pooled

GRID = (3, 5, 4)


def problem(dtype=torch.float32, grad=True):
    torch.manual_seed(0)
    return [torch.randn(1, 2, 60, 8, dtype=dtype, requires_grad=grad) for _ in range(3)]


def attention(q, k, v, select=TopR(2), **options):
    return block_sparse_attention(q, k, v, grid_q=GRID, grid_k=GRID, select=select, **{"block": (2, 4, 4), **options})


@pytest.mark.exhaustive
def test_opcheck():
    grid, _ = block_grids(GRID, GRID, (2, 4, 4))
    q, k, v = problem()
    lists = select_blocks(q, k, grid, grid, TopR(2))
    call = BlockSparseCall.of(lists, grid, grid, scale=0.3)
    torch.library.opcheck(block_sparse, (q, k, v, *call))
    means = pooled(q.detach(), grid)
    torch.library.opcheck(best_blocks, (means, means, 0.3, None, "share", 0.5))
    with torch.no_grad():
        out, lse = block_sparse(q, k, v, *call)
        inputs = [x.detach() for x in (q, k, v, lse)]
        delta = block_sparse_delta(torch.ones_like(out), out, "auto")
    torch.library.opcheck(block_sparse_delta, (torch.ones_like(out), out, "auto"))
    torch.library.opcheck(block_sparse_backward, (torch.ones_like(out), delta, *inputs, *call))


def test_the_operator_compiles_into_one_graph_with_its_backward():
    grid, _ = block_grids(GRID, GRID, (2, 4, 4))
    leaves = problem()
    lists = select_blocks(*leaves[:2], grid, grid, TopR(2))
    grid.offsets()

    def run(q, k, v):
        return attend(q, k, v, BlockSparseCall.of(lists, grid, grid, scale=0.3))[0].square().sum()

    compiled = torch.compile(run, backend="aot_eager", fullgraph=True)
    for ours, theirs in zip(
        torch.autograd.grad(compiled(*leaves), leaves), torch.autograd.grad(run(*leaves), leaves), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(("select", "cond_frames"), [(TopR(2), 0), (CDF(0.7), 2)])
@pytest.mark.every(3)
def test_the_whole_compiles_into_one_graph(select, cond_frames):
    """On a grid that its blocks do not divide, with a condition too; the compiler sees other numbers each time."""
    leaves = problem()

    def run(q, k, v):
        return attention(q, k, v, select, block=(2, 2, 3), cond_frames=cond_frames)

    found, expected = torch.compile(run, backend="aot_eager", fullgraph=True)(*leaves), run(*leaves)
    torch.testing.assert_close(found, expected)
    for ours, theirs in zip(
        torch.autograd.grad(found.sum(), leaves), torch.autograd.grad(expected.sum(), leaves), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_checkpointing_changes_nothing():
    leaves = problem()
    kept = torch.autograd.grad(attention(*leaves).square().sum(), leaves)
    again = torch.autograd.grad(checkpoint(attention, *leaves, use_reentrant=False).square().sum(), leaves)
    assert all(map(torch.equal, kept, again))


@pytest.mark.parametrize("select", [TopR(3), CDF(0.5)])
def test_checkpointing_that_keeps_products_of_matrices_changes_nothing(select):
    """It once kept selection's scores, which were then rounded again: other blocks in the backward pass."""
    costly = [torch.ops.reelwright.block_sparse.default, torch.ops.aten.bmm.default, torch.ops.aten.mm.default]
    leaves, run = problem(), partial(attention, select=select, block=(1, 2, 2))
    kept = torch.autograd.grad(run(*leaves).square().sum(), leaves)
    contexts = partial(create_selective_checkpoint_contexts, costly)
    out = checkpoint(run, *leaves, use_reentrant=False, context_fn=contexts)
    assert all(map(torch.equal, kept, torch.autograd.grad(out.square().sum(), leaves)))


def test_under_autocast_it_computes_in_its_type_and_selects_in_full():
    leaves = problem()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = attention(*leaves)
        assert attention(*(x.double() for x in leaves)).dtype == torch.float64, "fp64 is asked for by name, and stays"
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, attention(*(x.bfloat16() for x in leaves)))
    grads = torch.autograd.grad(out.float().sum(), leaves)
    assert {x.dtype for x in grads} == {torch.float32}


@pytest.mark.parametrize(
    ("dtype", "dim", "fits"),
    [(torch.bfloat16, 256, True), (torch.float32, 8, True), (torch.float64, 8, False), (torch.float16, 257, False)],
)
def test_triton_by_name_is_refused_where_it_has_no_kernel(dtype, dim, fits):
    """However many heads and tokens there are. On the CPU it is never chosen."""
    q = torch.empty(1, 300, 300, dim, dtype=dtype, device="meta")
    assert choose_backend("auto", q) == choose_backend("torch", q) == "torch"
    if fits:
        assert choose_backend("triton", q) == "triton"
    else:
        with pytest.raises(ValueError, match=f"D up to 256, not {dtype} with {dim}"):
            choose_backend("triton", q)
    with pytest.raises(ValueError, match="backend 'cuda'"):
        choose_backend("cuda", q)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_log_sum_exp_of_100_is_rounded_by_less_than_the_weights(dtype):
    """A weight is exp(score - lse), so that the lse's error is the weight's relative one."""
    assert 100 * torch.finfo(lse_dtype(dtype)).eps < torch.finfo(dtype).eps


def test_importing_the_package_loads_neither_torch_nor_triton():
    import subprocess
    import sys

    code = "import sys, reelwright.kernels; assert not {'torch', 'triton'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
