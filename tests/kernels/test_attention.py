"""The torch path against the oracle, and what holds for every path."""

import pytest
import torch
from hypothesis import given, settings

from reelwright.kernels import CDF, BlockLists, TopR, block_sparse_attention, reference
from tests.kernels.cases import cases
from tests.kernels.oracle import dense, expand, gradients, worst, worst_of_all

ROOM = {torch.float32: (2e-6, 1e-5), torch.float64: (1e-12, 1e-11)}


@pytest.fixture(params=["gathered", "whole", "tiny pieces"])
def form(request, monkeypatch):
    monkeypatch.setattr(reference, "DENSE_FROM", -1.0 if request.param == "whole" else 2.0)
    monkeypatch.setattr(reference, "CHUNK_BYTES", 4000 if request.param == "tiny pieces" else 8 << 20)


@pytest.mark.usefixtures("form")
@settings(max_examples=30, deadline=None)
@given(case=cases(dtypes=(torch.float32, torch.float64)))
def test_it_is_dense_attention_under_the_expanded_mask(case):
    mask = expand(case.mask(), *case.grids)
    out, lse = block_sparse_attention(case.q, case.k, case.v, return_lse=True, **case.options)
    expected, total = dense(case.q, case.k, case.v, mask)
    room = ROOM[case.q.dtype][0]
    assert worst(out, expected) <= room
    seen = total.isfinite()
    assert torch.equal(lse.isfinite(), seen)
    assert worst(lse[seen], total[seen]) <= room


@pytest.mark.usefixtures("form")
@settings(max_examples=30, deadline=None)
@given(case=cases(dtypes=(torch.float32, torch.float64)))
def test_its_gradients_are_those_of_the_oracle(case):
    mask = expand(case.mask(), *case.grids)
    leaves = [x.requires_grad_() for x in (case.q, case.k, case.v)]
    out, lse = block_sparse_attention(*leaves, return_lse=True, **case.options)
    grad, grad_lse = torch.randn_like(out), torch.randn_like(lse).where(lse.isfinite(), 0)
    found = torch.autograd.grad((out, lse), leaves, (grad, grad_lse))
    assert worst_of_all(found, gradients(*leaves, mask, grad, grad_lse)) <= ROOM[case.q.dtype][1]


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("dim", [64, 96, 128, 80])
def test_half_precision_is_within_twice_the_error_of_dense_attention(dtype, dim):
    torch.manual_seed(dim)
    grid, select = (5, 9, 7), TopR(0.4)
    q, k, v, grad = (torch.randn(1, 2, 315, dim, dtype=dtype) for _ in range(4))
    leaves = [x.clone().requires_grad_() for x in (q, k, v)]
    options = {"grid_q": grid, "grid_k": grid, "select": select}
    out = block_sparse_attention(*leaves, **options)
    found = [out, *torch.autograd.grad(out, leaves, grad)]
    mask = _mask(q, k, grid, select)
    exact = [dense(q, k, v, mask)[0], *gradients(q, k, v, mask, grad)]
    out = torch.nn.functional.scaled_dot_product_attention(*leaves, attn_mask=mask)
    peers = [out, *torch.autograd.grad(out, leaves, grad)]
    for ours, theirs, truth in zip(found, peers, exact, strict=True):
        assert worst(ours, truth) <= 2 * worst(theirs, truth)


def _mask(q, k, grid, select):
    from reelwright.kernels import block_grids, put_in_order, select_blocks

    grids = block_grids(grid, grid, (4, 4, 4))
    ordered = [put_in_order(x, g) for x, g in zip((q, k), grids, strict=True)]
    return expand(select_blocks(*ordered, *grids, select).mask(grids[1].count), *grids)


@pytest.mark.parametrize("select", [TopR(1.0), TopR(10_000), CDF(1.0)])
def test_sparsity_0_is_dense_attention(select):
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 2, 5 * 6 * 7, 32)
    out = block_sparse_attention(q, k, v, grid_q=(5, 6, 7), grid_k=(5, 6, 7), select=select)
    torch.testing.assert_close(out, torch.nn.functional.scaled_dot_product_attention(q, k, v))


@pytest.mark.parametrize("dense_from", [-1.0, 2.0])
def test_gradcheck(dense_from, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(reference, "DENSE_FROM", dense_from)
    leaves = [torch.randn(1, 1, 3 * 3 * 1, 2, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    lists = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 1], [1, 0, 0, 1], [0, 0, 1, 0]]).bool()
    grid = {"grid_q": (3, 3, 1), "grid_k": (3, 3, 1), "block": (2, 2, 2), "cond_frames": 2}

    def attention(q, k, v):
        return block_sparse_attention(q, k, v, select=lists, return_lse=True, **grid)

    assert torch.autograd.gradcheck(attention, leaves)


@pytest.mark.usefixtures("form")
def test_large_logits_do_not_overflow():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 1, 2, 64, 16)
    q, k = q * 300, k * 300
    out, lse = block_sparse_attention(
        q, k, v, grid_q=(4, 4, 4), grid_k=(4, 4, 4), block=(2, 2, 2), select=TopR(4), return_lse=True
    )
    assert out.isfinite().all()
    assert lse.isfinite().all()


def test_inference_with_a_cache_equals_training():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 2, 7 * 6 * 5, 16)
    clean, select = 3 * 6 * 5, TopR(0.4)
    whole = block_sparse_attention(q, k, v, grid_q=(7, 6, 5), grid_k=(7, 6, 5), select=select, cond_frames=3)
    noisy = block_sparse_attention(
        q[:, :, clean:], k, v, grid_q=(4, 6, 5), grid_k=(7, 6, 5), select=select, cond_frames=3
    )
    alone = block_sparse_attention(
        *(x[:, :, :clean] for x in (q, k, v)), grid_q=(3, 6, 5), grid_k=(3, 6, 5), select=select
    )
    torch.testing.assert_close(whole, torch.cat((alone, noisy), 2), rtol=1e-6, atol=1e-6)


@pytest.mark.usefixtures("form")
def test_an_empty_batch_has_gradients_too():
    q = torch.zeros(0, 2, 8, 4, requires_grad=True)
    out = block_sparse_attention(q, q, q, grid_q=(2, 2, 2), grid_k=(2, 2, 2), select=CDF(0.5))
    out.sum().backward()
    assert (out.shape, q.grad.shape) == (q.shape, q.shape)


Q = torch.zeros(1, 2, 8, 4)
ONE = torch.ones(1, 1, 1, 1, dtype=torch.int32)
GRID = {"grid_q": (2, 2, 2), "grid_k": (2, 2, 2)}


@pytest.mark.parametrize(
    ("tensors", "options", "says"),
    [
        ((Q, Q, Q), {**GRID, "grid_q": (2, 2, 3)}, "does not fit grid"),
        ((Q, Q, Q[:, :, :7]), GRID, "v of shape"),
        ((Q, Q[:, :1], Q), GRID, "differ in samples, heads or D"),
        ((Q, Q[..., :3], Q), GRID, "differ in samples, heads or D"),
        ((Q, Q.double(), Q), GRID, "must be alike"),
        ((Q, Q.to("meta"), Q), GRID, "must be alike"),
        ((Q.int(), Q.int(), Q.int()), GRID, "floating-point"),
        ((Q[0], Q, Q), GRID, "does not fit grid"),
        ((Q, Q, Q), {**GRID, "backend": "cuda"}, "auto, torch or triton"),
        ((Q.double(),) * 3, {**GRID, "backend": "triton"}, "Triton kernels take"),
        ((Q, Q, Q), {**GRID, "block": (2, 2)}, "block"),
        ((Q, Q, Q), {**GRID, "select": torch.ones(2, 2, dtype=torch.bool)}, "block mask"),
        ((Q, Q, Q), {**GRID, "select": torch.ones(1, 1)}, "block mask"),
        ((Q, Q, Q), {**GRID, "select": 0.5}, "select"),
        ((Q, Q, Q), {**GRID, "select": BlockLists(ONE.to("meta"), ONE[..., 0])}, "lists: indices"),
        ((Q, Q, Q), {**GRID, "select": BlockLists(ONE, ONE[..., 0].long())}, "lists: counts"),
        ((Q, Q, Q), {**GRID, "select": BlockLists(ONE.float(), ONE[..., 0])}, "lists: indices"),
    ],
)
def test_what_does_not_fit_is_said(tensors, options, says):
    with pytest.raises(ValueError, match=says):
        block_sparse_attention(*tensors, **{"select": TopR(1), **options})
