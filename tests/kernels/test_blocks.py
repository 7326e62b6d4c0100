"""Token grids in blocks: orders and inverses of any grid."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reelwright.kernels import BlockGrid, TopR, block_grids, put_back, put_in_order, select_blocks
from tests.kernels.oracle import block_of_token

SIZES = st.tuples(*[st.integers(1, 9)] * 3)
BLOCKS = st.tuples(*[st.integers(1, 5)] * 3)


@st.composite
def block_grid(draw):
    grid, block = draw(SIZES), draw(BLOCKS)
    times = draw(st.tuples(*[st.integers(1, 3)] * 3))
    wide = tuple(a * b for a, b in zip(block, times, strict=True))
    sizes = draw(st.sampled_from([(block, None), (block, wide), (wide, block)]))
    return BlockGrid(grid, sizes[0], draw(st.integers(0, grid[0])), sizes[1])


@settings(max_examples=100, deadline=None)
@given(grid=block_grid())
def test_the_order_makes_blocks_contiguous_and_its_inverse_is_exact(grid):
    order, inverse, offsets = grid.order(), grid.inverse(), grid.offsets()
    tokens = torch.arange(grid.tokens)
    assert torch.equal(order.sort().values, tokens)
    assert torch.equal(order[inverse], tokens)
    lengths = offsets.diff()
    assert lengths.min() >= 1
    assert lengths.max() <= grid.capacity
    assert (lengths.numel(), int(offsets[-1])) == (grid.count, grid.tokens)
    owner = torch.arange(grid.count).repeat_interleave(lengths)
    assert torch.equal(block_of_token(grid)[order], owner)


def test_the_module_s_drawings_are_true():
    grid = BlockGrid((1, 3, 4), (1, 2, 2))
    assert grid.order().tolist() == [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 10, 11]
    assert grid.inverse().view(3, 4).tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 10, 11]]
    assert grid.offsets().tolist() == [0, 4, 8, 10, 12]
    nested = BlockGrid((1, 4, 4), (1, 2, 2), other=(1, 2, 4))
    assert nested.inverse().view(4, 4).tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]


@settings(max_examples=30, deadline=None)
@given(grid=block_grid())
def test_each_block_is_once_among_those_of_its_length(grid):
    offsets = grid.offsets()
    for blocks, places in grid.by_size():
        for block, tokens in zip(blocks.tolist(), places.tolist(), strict=True):
            assert tokens == list(range(int(offsets[block]), int(offsets[block + 1])))
    assert sorted(torch.cat([blocks for blocks, _ in grid.by_size()]).tolist()) == list(range(grid.count))


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_what_is_first_made_while_sampling_can_be_trained_with(device):
    grid = BlockGrid((3, 5, 7), (2, 2, 2))
    with torch.inference_mode():
        made = [grid.order(device), grid.inverse(device), grid.offsets(device), *grid.by_size(device)[0]]
    assert not any(x.is_inference() for x in made)


@settings(max_examples=60, deadline=None)
@given(grid=block_grid())
def test_no_block_has_tokens_of_both_sides_of_the_split_nor_is_larger_than_asked(grid):
    bounds = grid.bounds()
    assert ((bounds[:, 0, 1] <= grid.split) | (bounds[:, 0, 0] >= grid.split)).all()
    assert ((bounds[..., 1] - bounds[..., 0]) <= torch.tensor(grid.block)).all()


@settings(max_examples=60, deadline=None)
@given(grid=SIZES, inner=BLOCKS, times=st.tuples(*[st.integers(1, 3)] * 3), swap=st.booleans(), data=st.data())
def test_two_block_sizes_share_one_order(grid, inner, times, swap, data):
    outer = tuple(a * b for a, b in zip(inner, times, strict=True))
    cond = data.draw(st.integers(0, grid[0]))
    fine, coarse = block_grids(grid, grid, (inner, outer), cond)
    if swap:
        coarse, fine = block_grids(grid, grid, (outer, inner), cond)
    assert torch.equal(fine.order(), coarse.order())


def test_cached_frames_leave_the_noisy_blocks_as_they_are():
    _, whole = block_grids((7, 5, 6), (7, 5, 6), (4, 4, 4), 3)
    noisy, keys = block_grids((4, 5, 6), (7, 5, 6), (4, 4, 4), 3)
    assert keys == whole
    assert noisy.split == 0
    clean = 3 * 5 * 6
    assert torch.equal(noisy.order() + clean, whole.order()[clean:])


def test_queries_with_more_frames_than_the_keys_are_no_condition():
    grids = block_grids((5, 4, 4), (3, 4, 4), (2, 2, 2))
    assert grids[0].split == 0
    q, k = (torch.randn(1, 1, grid.tokens, 4) for grid in grids)
    assert (select_blocks(q, k, *grids, TopR(2)).counts == 2).all()


def test_the_permutation_carries_gradients_back():
    grid = BlockGrid((3, 5, 6), (2, 4, 4))
    x = torch.randn(2, 90, 3, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(put_back(put_in_order(x, grid, 1), grid, 1), x)
    assert torch.autograd.gradcheck(lambda x: put_in_order(x, grid, 1), x)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (((4, 4, 4), (4, 4, 4), (4, 4, 0)), "positive integers"),
        (((4, 4, 4), (4, 4, 4), (4, 4)), "positive integers"),
        (((4, 4, 0), (4, 4, 4), (4, 4, 4)), "grid_q"),
        (((4, 4, 4), (4, 4), (4, 4, 4)), "grid_k"),
        (((4, 4, 4), (4, 4, 4), ((2, 4, 4), (4, 2, 4))), "common token order"),
        (((4, 4, 4), (4, 4, 4), (4, 4, 4), 5), "cond_frames 5"),
        (((5, 4, 4), (4, 4, 4), (4, 4, 4), 1), "more frames"),
    ],
)
def test_what_does_not_fit_is_said(arguments, says):
    with pytest.raises(ValueError, match=says):
        block_grids(*arguments)
