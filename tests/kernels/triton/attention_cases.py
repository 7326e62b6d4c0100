"""The Triton kernels against the oracle: under the interpreter (started by test_triton.py), or on a GPU."""

import os

import pytest
import torch
from hypothesis import HealthCheck, given, settings

from reelwright.kernels import BlockLists, TopR, block_grids, block_sparse_attention, reference
from tests.kernels.cases import Case, cases
from tests.kernels.oracle import dense, expand, gradients, roundoff, worst, worst_of_all

DEVICE = "cuda" if torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1" else "cpu"


def passes(case):
    """out, log-sum-exp, gradients, by Triton."""
    leaves = [x.detach().to(DEVICE).requires_grad_() for x in (case.q, case.k, case.v)]
    out, lse = block_sparse_attention(*leaves, return_lse=True, backend="triton", **case.options)
    grads = [torch.randn_like(out), torch.randn_like(lse).where(lse.isfinite(), 0)]
    found = torch.autograd.grad((out, lse), leaves, grads)
    return [x.cpu() for x in (out, lse, *grads, *found)]


@pytest.fixture(params=["with fp64 where it must be", "kernels alone"])
def kernels_alone(request, monkeypatch):
    alone = request.param == "kernels alone"
    monkeypatch.setattr(reference, "EXACT_TO", float("inf") if alone else reference.EXACT_TO)
    return alone


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases(dtypes=(torch.float32,), dims=(1, 7, 16, 64), most=(3, 4, 4)))
def test_forward_and_backward_are_the_oracle_s(kernels_alone, case):
    mask = expand(case.mask(), *case.grids)
    out, lse, grad, grad_lse, *found = passes(case)
    expected, total = dense(case.q, case.k, case.v, mask)
    seen = total.isfinite()
    assert torch.equal(lse.isfinite(), seen)
    more = roundoff(case.q, case.k) if kernels_alone else 1
    assert worst(out, expected) <= 2e-6 * more
    assert worst(lse[seen], total[seen]) <= 2e-6 * more
    assert worst_of_all(found, gradients(case.q, case.k, case.v, mask, grad, grad_lse)) <= 1e-5 * more


@pytest.mark.parametrize("dim", [7, pytest.param(16, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize(("grid_q", "grid_k"), [((4, 4, 4), (4, 4, 4)), ((4, 4, 4), (3, 4, 4)), ((3, 4, 4), (4, 4, 4))])
def test_without_masks_where_blocks_are_full_and_with_them_where_not(dim, grid_q, grid_k):
    """Blocks of 64 queries, two or four tiles, and of 16 keys, one tile; full on both sides, on one, on the other."""
    torch.manual_seed(dim)
    grids = block_grids(grid_q, grid_k, ((4, 4, 4), (2, 2, 4)))
    q, k, v = (torch.randn(1, 2, grid.tokens, dim) for grid in (grids[0], grids[1], grids[1]))
    options = {"grid_q": grid_q, "grid_k": grid_k, "block": ((4, 4, 4), (2, 2, 4)), "select": TopR(3)}
    case = Case(q, k, v, grids, TopR(3), options)
    mask = expand(case.mask(), *grids)
    out, lse, grad, grad_lse, *found = passes(case)
    expected, total = dense(q, k, v, mask)
    assert worst(out, expected) <= 2e-6
    assert worst(lse, total) <= 2e-6
    assert worst_of_all(found, gradients(q, k, v, mask, grad, grad_lse)) <= 1e-5


@pytest.mark.exhaustive
def test_a_negative_scale_is_computed_too():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 1, 1, 32, 16, device=DEVICE)
    options = {"grid_q": (2, 4, 4), "grid_k": (2, 4, 4), "block": (2, 2, 4), "select": TopR(1.0), "backend": "triton"}
    found = block_sparse_attention(q, k, v, scale=-0.25, **options)
    torch.testing.assert_close(found, block_sparse_attention(-q, k, v, scale=0.25, **options))


@pytest.mark.parametrize(
    ("frames", "dim"),
    [(5, 128), *(pytest.param(f, d, marks=pytest.mark.exhaustive) for f, d in [(5, 64), (8, 96), (8, 128)])],
)
def test_fp16_is_within_twice_the_error_of_dense_attention(frames, dim):
    """Two blocks of 64 tokens, or one of 64 and one of 16."""
    torch.manual_seed(dim)
    tokens = 16 * frames
    q, k, v, grad = (torch.randn(1, 1, tokens, dim).half() for _ in range(4))
    leaves = [x.clone().to(DEVICE).requires_grad_() for x in (q, k, v)]
    lists = BlockLists.of_mask(torch.tensor([[True, False], [True, True]], device=DEVICE))
    grid = {"grid_q": (frames, 4, 4), "grid_k": (frames, 4, 4), "select": lists}
    out = block_sparse_attention(*leaves, backend="triton", **grid)
    found = [x.cpu() for x in (out, *torch.autograd.grad(out, leaves, grad.to(DEVICE)))]
    mask = torch.ones(tokens, tokens, dtype=torch.bool)
    mask[:64, 64:] = False
    exact = [dense(q, k, v, mask)[0], *gradients(q, k, v, mask, grad)]
    peers = [x.clone().requires_grad_() for x in (q, k, v)]
    out = torch.nn.functional.scaled_dot_product_attention(*peers, attn_mask=mask)
    for ours, theirs, truth in zip(found, (out, *torch.autograd.grad(out, peers, grad)), exact, strict=True):
        assert worst(ours, truth) <= 2 * worst(theirs, truth)
