"""The selection's Triton kernels against PyTorch's: under the interpreter (started by test_triton.py), or on a GPU."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reelwright.kernels import CDF, BlockGrid, TopR, means, select_blocks
from reelwright.kernels.ranking import best_blocks, block_means
from reelwright.kernels.selection import pooled
from reelwright.kernels.triton import ranking as triton_ranking
from tests.kernels.test_selection import case as problems
from tests.kernels.triton.attention_cases import DEVICE


def chosen(case, rule, backend):
    q, k, *grids = case
    q, k = (x[:1].to(DEVICE) for x in (q, k))
    found = select_blocks(q, k, *grids, rule, backend=backend)
    return found.mask(grids[1].count).cpu(), found.counts.cpu(), found.indices.cpu()


@settings(max_examples=5, deadline=None)
@given(case=problems(), keep=st.integers(1, 12) | st.floats(0, 1))
def test_top_r_s_lists_are_pytorch_s(case, keep):
    assert all(map(torch.equal, chosen(case, TopR(keep), "triton"), chosen(case, TopR(keep), "torch")))


def test_without_fp64_top_r_s_lists_are_pytorch_s(monkeypatch):
    """Halves, whose sums are exact in fp32, in blocks of a power of two: both pool to the bit."""
    monkeypatch.setattr(means, "_has_fp64", lambda device: False)
    torch.manual_seed(0)
    grid = BlockGrid((4, 6, 8), (2, 2, 4))
    q, k = torch.randn(2, 1, 2, grid.tokens, 8, device=DEVICE).half()
    found = pooled(k, grid, "triton")
    assert found.dtype == torch.float32
    assert torch.equal(found, pooled(k, grid, "torch"))
    case = q, k, grid, grid
    assert all(map(torch.equal, chosen(case, TopR(5), "triton"), chosen(case, TopR(5), "torch")))


@settings(max_examples=5, deadline=None)
@given(case=problems(), p=st.sampled_from([0.0, 0.3137, 0.7713, 1.0]))
def test_cdf_s_lists_are_pytorch_s(case, p):
    assert all(map(torch.equal, chosen(case, CDF(p), "triton"), chosen(case, CDF(p), "torch")))


def test_means_of_short_and_of_long_blocks():
    grid = BlockGrid((5, 9, 11), (4, 4, 4))
    x = torch.randn(2, 3, grid.tokens, 24, device=DEVICE)
    torch.testing.assert_close(pooled(x, grid, "triton"), pooled(x, grid, "torch"), rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("rule", [("number", 7.0), ("share", 0.2), ("cdf", 0.4)])
def test_scores_beyond_fp64_s_digits_and_nan_keep_lowest_blocks(rule):
    q, k = torch.ones(1, 1, 2, 4, dtype=torch.float64, device=DEVICE), torch.ones(1, 1, 40, 4, dtype=torch.float64)
    for value in (1e300, -1e300, float("nan")):
        q[..., 1, :] = value
        found = best_blocks(q, k.to(DEVICE), 1.0, None, *rule, "triton")
        kept = found[1][0, 0, 1]
        assert found[0][0, 0, 1, :kept].tolist() == list(range(kept))
        assert kept == {"number": 7, "share": 8, "cdf": 16}[rule[0]]


@pytest.mark.exhaustive
def test_a_row_at_a_time_and_rows_too_long_for_a_program(monkeypatch):
    torch.manual_seed(0)
    q, k = torch.randn(2, 1, 2, 30, 8, dtype=torch.float64, device=DEVICE)
    whole = best_blocks(q, k, 0.3, None, "share", 0.3, "triton")
    for name, value in (("chunk_bytes", lambda device: 1), ("MAX_KEY_BLOCKS", 16)):
        monkeypatch.setattr(triton_ranking, name, value)
        assert all(map(torch.equal, best_blocks(q, k, 0.3, None, "share", 0.3, "triton"), whole))


@pytest.mark.exhaustive
def test_they_pass_opcheck():
    grid = BlockGrid((3, 5, 4), (2, 4, 4))
    x = torch.randn(1, 2, grid.tokens, 8, device=DEVICE)
    torch.library.opcheck(block_means, (x, grid.offsets(DEVICE)))
    means = pooled(x, grid)
    torch.library.opcheck(best_blocks, (means, means, 0.3, None, "cdf", 0.5, "triton"))
