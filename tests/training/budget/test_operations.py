"""Operations of an operator by the shapes of its tensors, against pairs of queries and keys that are counted."""

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from reelwright.kernels import BlockSparseCall, TopR, attend, block_grids, select_blocks
from reelwright.training.budget.operations import operator_flops


class Counted(TorchDispatchMode):
    """Sums of the operators that run: products, attention."""

    def __init__(self) -> None:
        super().__init__()
        self.products = self.attention = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        products, attention = operator_flops(func, args, out)
        self.products += products
        self.attention += attention
        return out


def test_a_product_of_matrices_takes_a_multiply_add_per_pair() -> None:
    a, b = torch.randn(3, 5), torch.randn(5, 7)
    found = []
    for run in (lambda: a @ b, lambda: torch.addmm(torch.ones(7), a, b), lambda: a.expand(4, 3, 5) @ b.expand(4, 5, 7)):
        with Counted() as seen:
            run()
        found.append((seen.products, seen.attention))
    assert found == [(2 * 3 * 5 * 7, 0), (2 * 3 * 5 * 7, 0), (4 * 2 * 3 * 5 * 7, 0)]


B, HEADS, DIM = 2, 3, 8


def test_fused_attention_is_two_products_and_its_backward_pass_five() -> None:
    q, k = (torch.randn(B, HEADS, n, DIM, requires_grad=True) for n in (5, 7))
    with Counted() as forward:
        out = torch.nn.functional.scaled_dot_product_attention(q, k, k)
    a_product = 2 * B * HEADS * 5 * 7 * DIM
    assert (forward.products, forward.attention) == (0, 2 * a_product)
    with Counted() as backward:
        out.sum().backward()
    assert (backward.products, backward.attention) == (0, 5 * a_product)


@pytest.mark.parametrize("keep", [1, 2, 4])
def test_sparse_attention_is_its_blocks_share_of_the_dense(keep: int) -> None:
    """Of 4 key blocks of 8 tokens each; the queries' grid has twice as many."""
    grid_q, grid_k = (4, 4, 4), (2, 4, 4)
    blocks_q, blocks_k = block_grids(grid_q, grid_k, (2, 2, 2))
    q, k = (torch.randn(B, HEADS, n, DIM, requires_grad=True) for n in (64, 32))
    call = BlockSparseCall.of(select_blocks(q, k, blocks_q, blocks_k, TopR(keep)), blocks_q, blocks_k, scale=0.3)
    a_product = 2 * B * HEADS * 64 * 8 * keep * DIM
    with Counted() as forward:
        out = attend(q, k, k, call)[0]
    assert forward.attention == 2 * a_product
    with Counted() as backward:
        out.sum().backward()
    assert backward.attention == 5 * a_product


@pytest.mark.parametrize("cond_frames", [0, 1, 3])
def test_a_ring_s_strips_see_what_the_whole_sees_between_them(cond_frames: int) -> None:
    """Condition frames see one another, the others everything."""
    rows, columns, frames = [2, 1], 4, 3
    line = sum(rows) * columns
    of = torch.arange(frames * line) // line
    pairs = int(((of[:, None] >= cond_frames) | (of < cond_frames)).sum())
    ring, forward, backward = torch.ops.reelwright, 0, 0
    import reelwright.training.distributed.ring  # noqa: F401  # registers them

    for mine in rows:
        n = mine * columns
        q = torch.randn(B, HEADS, frames * n, DIM)
        route = ("group", rows, columns, frames, cond_frames, cond_frames * n)
        forward += operator_flops(ring.ring_attention.default, (q, q, q, *route), None)[1]
        backward += operator_flops(ring.ring_attention_backward.default, (q, q, q, q, q, q, *route), None)[1]
    assert forward == 2 * 2 * B * HEADS * pairs * DIM
    assert backward == 5 * 2 * B * HEADS * pairs * DIM
