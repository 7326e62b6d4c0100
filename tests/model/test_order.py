"""Modulation of tokens in block order: what a vector gathered for each token gives, forward and backward."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reelwright.kernels import BlockGrid
from reelwright.model.attention import Layout
from reelwright.model.order import Scattered, gated, in_blocks, modulate, pieces_of, raster

sizes = st.integers(1, 7)
blocks = st.tuples(*[st.integers(1, 4)] * 3)


@st.composite
def grids(draw):
    grid = draw(st.tuples(sizes, sizes, sizes))
    return BlockGrid(grid, draw(blocks), draw(st.integers(0, grid[0])))


def check(order: torch.Tensor, grid: tuple[int, int, int], pieces) -> None:
    torch.manual_seed(0)
    frame = order // (grid[1] * grid[2])
    x, update = (torch.randn(2, frame.numel(), 3, requires_grad=True) for _ in range(2))
    shift, scale, gate = (torch.randn(2, grid[0], 3, requires_grad=True) for _ in range(3))
    weight = torch.randn_like(x)
    ours = modulate(x, shift, scale, pieces), gated(x, update, gate, pieces)
    right = x * (1 + scale[:, frame]) + shift[:, frame], x + gate[:, frame] * update
    for a, b, inputs in zip(ours, right, ((x, shift, scale), (x, update, gate)), strict=True):
        torch.testing.assert_close(a, b)
        slopes = [torch.autograd.grad((y * weight).sum(), inputs) for y in (a, b)]
        torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-5, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(grids())
def test_pieces_are_the_blocks_of_any_grid(grid):
    pieces = in_blocks(grid)
    seen = torch.zeros(1, grid.tokens, 1)
    for piece in pieces:
        piece.tokens(seen).add_(1)
    assert (seen == 1).all()
    check(grid.order(), grid.grid, pieces)


def test_other_orders():
    nested = BlockGrid((3, 5, 6), (1, 2, 2), 1, (2, 4, 2))
    (piece,) = pieces = in_blocks(nested)
    assert isinstance(piece, Scattered)
    check(nested.order(), nested.grid, pieces)
    check(torch.arange(90), (3, 5, 6), raster(3, 30))


def test_a_layout_s_pieces_are_its_queries():
    whole = Layout(6, 4, 4, cond_frames=2, block=((2, 2, 2), (2, 2, 2)))
    assert [p.frame for p in pieces_of(whole)] == [0, 2]
    cached = Layout(6, 4, 4, cached_frames=2, block=((2, 2, 2), (2, 2, 2)))
    (piece,) = pieces_of(cached)
    assert (piece.frame, piece.groups) == (0, (0, 2, 32))


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.exhaustive)])
def test_types_are_kept_and_the_graph_is_one(dtype):
    pieces = in_blocks(BlockGrid((3, 4, 6), (2, 2, 4)))
    x = torch.randn(1, 72, 4, dtype=dtype, requires_grad=True)
    vectors = torch.randn(1, 3, 4, requires_grad=True)

    def both(x, vectors):
        return gated(x, modulate(x, vectors, vectors, pieces), vectors, pieces)

    plain = both(x, vectors)
    fused = torch.compile(both, fullgraph=True, backend="aot_eager")(x, vectors)
    assert plain.dtype == fused.dtype == dtype
    torch.testing.assert_close(fused, plain)
    slopes = [torch.autograd.grad(y.float().square().sum(), (x, vectors), retain_graph=True) for y in (plain, fused)]
    torch.testing.assert_close(slopes[0], slopes[1], rtol=2e-2, atol=2e-2)
