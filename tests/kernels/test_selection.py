"""Which blocks are kept: against plain loops, with ties, conditions and patterns."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reelwright.kernels import (
    CDF,
    BlockGrid,
    BlockLists,
    TopR,
    block_grids,
    causal_by_frame,
    means,
    plane_and_time,
    ranking,
    select_blocks,
    sliding_tile,
)
from reelwright.kernels import lists as lists_module
from reelwright.kernels import selection as selection_module
from reelwright.kernels.ranking import STEP, ranks_of, scores_of
from reelwright.kernels.selection import pooled, visible


@st.composite
def case(draw):
    """q and k in block order on ragged grids, with or without a condition, with peaked, flat or equal scores."""
    grid = draw(st.tuples(st.integers(1, 6), st.integers(1, 7), st.integers(1, 7)))
    cond = draw(st.integers(0, grid[0] - 1))
    first = draw(st.sampled_from([0, cond]))
    block = draw(st.tuples(*[st.integers(1, 4)] * 3))
    grids = block_grids((grid[0] - first, *grid[1:]), grid, block, cond)
    torch.manual_seed(draw(st.integers(0, 999)))
    spread = draw(st.sampled_from([0.0, 1e-3, 1.0, 30.0]))
    q, k = (torch.randn(2, 2, g.tokens, 8) * spread for g in grids)
    if draw(st.booleans()):
        k = k[:, :, :1].expand_as(k)
    return q, k, *grids


def ranked(q, k, grid_q, grid_k):
    """For each row: (blocks in order of falling score, lowest first among equals; their softmax)."""
    scores = scores_of(ranks_of(pooled(q, grid_q), pooled(k, grid_k), q.shape[-1] ** -0.5))
    seen = visible(grid_q, grid_k)
    for place in torch.cartesian_prod(*map(torch.arange, scores.shape[:3])).tolist():
        row = scores[tuple(place)]
        allowed = [j for j in range(grid_k.count) if seen is None or seen[place[2], j]]
        order = sorted(allowed, key=lambda j: (-float(row[j]), j))
        yield place, order, row[order].softmax(-1).tolist()


@settings(max_examples=40, deadline=None)
@given(case=case(), keep=st.integers(1, 12) | st.floats(0, 1))
def test_top_r_keeps_the_best_and_the_lowest_of_equals(case, keep):
    lists = select_blocks(*case, TopR(keep))
    mask = lists.mask(case[3].count)
    for place, order, _ in ranked(*case):
        most = keep if isinstance(keep, int) else max(1, -int(-(keep * len(order) - 1e-6) // 1))
        assert mask[tuple(place)].nonzero().flatten().tolist() == sorted(order[:most])


@settings(max_examples=40, deadline=None)
@given(case=case(), p=st.sampled_from([0.0, 1.0]) | st.floats(0, 1))
def test_cdf_keeps_the_block_that_crosses_p_and_none_after_it(case, p):
    mask = select_blocks(*case, CDF(p)).mask(case[3].count)
    for place, order, weights in ranked(*case):
        kept = mask[tuple(place)].nonzero().flatten().tolist()
        assert kept == sorted(order[: len(kept)])
        assert len(kept) >= 1
        assert sum(weights[: len(kept)]) >= p - 1e-9
        assert len(kept) == 1 or p == 1 or sum(weights[: len(kept) - 1]) <= p + 1e-9


@pytest.mark.parametrize("rule", [TopR(0.3), CDF(0.6)])
def test_made_a_row_and_a_head_at_a_time_lists_are_the_same(rule, monkeypatch):
    torch.manual_seed(0)
    grids = block_grids((5, 6, 5), (5, 6, 5), (2, 2, 2), 2)
    q, k = torch.randn(2, 2, 3, 150, 8)
    whole = select_blocks(q, k, *grids, rule)
    expected = [whole.indices, whole.counts, *whole.transpose(grids[1].count)]
    for module in (lists_module, ranking, selection_module):
        monkeypatch.setattr(module, "chunk_bytes", lambda device: 1)
    parts = select_blocks(q, k, *grids, rule)
    assert all(map(torch.equal, expected, [parts.indices, parts.counts, *parts.transpose(grids[1].count)]))


@pytest.mark.parametrize("cond_frames", [0, 2])
def test_lists_of_top_r_are_no_wider_than_they_need_be_when_compiled(cond_frames):
    grids = block_grids((5, 6, 5), (5, 6, 5), (2, 2, 2), cond_frames)
    q = torch.randn(1, 1, 150, 8)
    compiled = torch.compile(lambda q: select_blocks(q, q, *grids, TopR(5)).indices, backend="eager", fullgraph=True)
    assert compiled(q).shape[-1] == 5


@pytest.fixture
def without_fp64(monkeypatch):
    monkeypatch.setattr(means, "_has_fp64", lambda device: False)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=case(), keep=st.integers(1, 12) | st.floats(0, 1))
def test_without_fp64_another_block_is_kept_only_where_scores_are_as_good_as_equal(without_fp64, case, keep):
    q, k, *grids = case
    q, k = q.bfloat16(), k.bfloat16()
    found = pooled(q, grids[0]), pooled(k, grids[1])
    assert {x.dtype for x in found} == {torch.float32}
    exact = [pooled(x.double(), grid) for x, grid in zip((q, k), grids, strict=True)]  # fp64 stays fp64
    scores = exact[0] @ exact[1].mT * q.shape[-1] ** -0.5
    mask = select_blocks(q, k, *grids, TopR(keep)).mask(grids[1].count)
    expect = select_blocks(q.double(), k.double(), *grids, TopR(keep)).mask(grids[1].count)
    assert torch.equal(mask.sum(-1), expect.sum(-1))
    low = scores.masked_fill(~mask, torch.inf).amin(-1)
    bound = scores.masked_fill(~expect, torch.inf).amin(-1)
    room = 2 * STEP + 1e-6 * scores.abs().amax(-1)
    assert (low >= bound - room).all()


def test_without_fp64_equal_halves_tie_and_the_lowest_blocks_win(without_fp64):
    grid = BlockGrid((4, 10, 10), (3, 4, 4))
    q = torch.randn(1, 3, 400, 128).half()
    k = torch.randn(1, 3, 1, 128).half().expand(1, 3, 400, 128)
    lists = select_blocks(q, k, grid, grid, TopR(5))
    assert (lists.indices == torch.arange(5)).all()


@pytest.mark.parametrize(
    ("device", "has"),
    [("NVIDIA H100 80GB HBM3", True), ("NVIDIA A100-SXM4-80GB", True), ("NVIDIA GB200", True),
     ("AMD Instinct MI300X", True), ("NVIDIA H800", False), ("NVIDIA H20", False), ("NVIDIA GeForce RTX 4090", False),
     ("NVIDIA L40S", False), ("NVIDIA RTX A1000", False)],
)  # fmt: skip
def test_which_gpus_have_fp64(device, has):
    assert bool(means.FP64_UNITS.search(device)) is has


def test_equal_keys_tie_and_the_lowest_blocks_win():
    grid = BlockGrid((4, 10, 10), (3, 4, 4))
    q = torch.randn(1, 3, 400, 128)
    k = torch.randn(1, 3, 1, 128).expand(1, 3, 400, 128)
    lists = select_blocks(q, k, grid, grid, TopR(5))
    assert (lists.indices == torch.arange(5)).all()


@settings(max_examples=40, deadline=None)
@given(case=case())
def test_means_are_over_the_tokens_there_are(case):
    _, k, _, grid = case
    ends = grid.offsets().tolist()
    parts = [k[:, :, a:b].double().mean(2) for a, b in zip(ends, ends[1:], strict=False)]
    torch.testing.assert_close(pooled(k, grid), torch.stack(parts, 2))


@settings(max_examples=40, deadline=None)
@given(data=st.data(), rows=st.integers(1, 6), blocks=st.integers(1, 7))
def test_lists_masks_and_transposes_say_the_same(data, rows, blocks):
    bits = data.draw(st.lists(st.booleans(), min_size=2 * rows * blocks, max_size=2 * rows * blocks))
    mask = torch.tensor(bits).view(1, 2, rows, blocks)
    lists = BlockLists.of_mask(mask)
    assert torch.equal(lists.mask(blocks), mask)
    assert (lists.indices.dtype, lists.counts.dtype) == (torch.int32, torch.int32)
    assert torch.equal(lists.counts, mask.sum(-1))
    queries, starts = lists.transpose(blocks)
    for head in range(2):
        for j in range(blocks):
            first, last = starts[0, head, j : j + 2].tolist()
            assert queries[0, head, first:last].tolist() == mask[0, head, :, j].nonzero().flatten().tolist()


def test_a_cache_of_the_condition_selects_as_training_does():
    torch.manual_seed(0)
    grid_q, grid_k = block_grids((7, 6, 5), (7, 6, 5), (4, 4, 4), 3)
    q, k = torch.randn(2, 1, 2, 210, 16)
    clean = 3 * 6 * 5
    for select in (TopR(0.3), TopR(3), CDF(0.6)):
        whole = select_blocks(q, k, grid_q, grid_k, select).mask(grid_k.count)
        noisy = select_blocks(q[:, :, clean:], k, *block_grids((4, 6, 5), (7, 6, 5), (4, 4, 4), 3), select)
        alone = select_blocks(q[:, :, :clean], k[:, :, :clean], *block_grids((3, 6, 5), (3, 6, 5), (4, 4, 4)), select)
        blocks = alone.counts.shape[-1]
        assert torch.equal(noisy.mask(grid_k.count), whole[:, :, blocks:])
        assert torch.equal(alone.mask(blocks), whole[:, :, :blocks, :blocks])
        assert not whole[:, :, :blocks, blocks:].any()


def test_a_given_mask_cannot_show_noisy_keys_to_the_condition():
    grid_q, grid_k = block_grids((4, 2, 2), (4, 2, 2), (1, 2, 2), 1)
    q = torch.zeros(1, 1, 16, 4)
    lists = select_blocks(q, q, grid_q, grid_k, torch.ones(4, 4, dtype=torch.bool))
    assert lists.counts.flatten().tolist() == [1, 4, 4, 4]


def test_causal_by_frame_is_a_triangle_for_blocks_of_one_frame():
    grid = BlockGrid((4, 3, 3), (1, 3, 3))
    assert torch.equal(causal_by_frame(grid, grid), torch.ones(4, 4, dtype=torch.bool).tril())
    later = BlockGrid((2, 3, 3), (1, 3, 3))
    assert torch.equal(causal_by_frame(later, grid), torch.ones(4, 4, dtype=torch.bool).tril()[2:])


def test_plane_and_time_is_a_cross():
    grid = BlockGrid((3, 4, 4), (1, 2, 2))
    seen = plane_and_time(grid, grid)[5].view(3, 4)  # frame 1, block 1
    assert seen.tolist() == [[False, True, False, False], [True] * 4, [False, True, False, False]]


@settings(max_examples=40, deadline=None)
@given(
    grid=st.tuples(*[st.integers(1, 8)] * 3), block=st.tuples(*[st.integers(1, 3)] * 3),
    window=st.tuples(*[st.integers(1, 8)] * 3),
)  # fmt: skip
def test_a_sliding_window_stays_inside_and_holds_the_middle_of_its_block(grid, block, window):
    blocks = BlockGrid(grid, block)
    kept = sliding_tile(blocks, blocks, window)
    assert kept.diagonal().all()
    if all(a >= b for a, b in zip(window, grid, strict=True)):
        assert kept.all()


def test_a_sliding_window_reaches_the_blocks_that_it_touches_on_all_three_axes():
    grid = BlockGrid((4, 4, 4), (1, 2, 2))
    kept = sliding_tile(grid, grid, (1, 2, 2)).view(4, 2, 2, 4, 2, 2)
    assert torch.equal(kept.flatten(3).flatten(0, 2), torch.eye(16, dtype=torch.bool))
    kept = sliding_tile(grid, grid, (3, 2, 2)).view(4, 2, 2, 4, 2, 2)
    frames = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 0], [0, 1, 1, 1], [0, 1, 1, 1]], dtype=torch.bool)  # moved inside
    for row in range(2):
        for column in range(2):
            seen = kept[:, row, column]
            assert torch.equal(seen[:, :, row, column], frames)
            assert seen.sum() == frames.sum()


@pytest.mark.parametrize("keep", [0, -1, 1.5, -0.1, True])
def test_top_r_of_nothing_sensible_is_refused(keep):
    with pytest.raises(ValueError, match="TopR"):
        TopR(keep)


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_cdf_outside_0_to_1_is_refused(p):
    with pytest.raises(ValueError, match=r"0\.\.1"):
        CDF(p)


@pytest.mark.parametrize("shape", [(), (1, 1), (2, 1), (1, 3), (2, 3)])
def test_a_mask_holds_for_all_samples_and_heads_or_for_each(shape):
    grid = BlockGrid((1, 2, 2), (1, 1, 1))
    q = torch.randn(2, 3, 4, 8)
    mask = torch.rand(*shape, 4, 4, generator=torch.Generator().manual_seed(0)) < 0.5
    found = select_blocks(q, q, grid, grid, mask).mask(4)
    assert torch.equal(found.expand(2, 3, 4, 4), mask.expand(2, 3, 4, 4))


@pytest.mark.parametrize("shape", [(4, 3), (3, 4), (3, 1, 4, 4), (1, 2, 4, 4), (3, 4, 4)])
def test_a_mask_that_does_not_fit_is_refused(shape):
    grid = BlockGrid((1, 2, 2), (1, 1, 1))
    q = torch.randn(2, 3, 4, 8)
    with pytest.raises(ValueError, match="a block mask of shape"):
        select_blocks(q, q, grid, grid, torch.ones(shape, dtype=torch.bool))
