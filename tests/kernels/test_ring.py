"""The ring on gloo ranks: what one process computes, whatever the number of ranks."""

import pytest
import torch

from kernels import CDF, TopR, block_sparse_attention
from kernels.ring import ring_block_sparse_attention
from tests.training.ranks import ranks

CASES = {
    "top r": {"select": TopR(0.3)},
    "cdf": {"select": CDF(0.5)},
    "condition": {"select": TopR(0.4), "cond_frames": 2},
    "two sizes": {"select": TopR(3), "block": ((2, 2, 2), (2, 2, 4))},
    "cached": {"select": TopR(0.3), "cond_frames": 1, "grid_q": (2, 9, 5)},
    "none of some ranks": {"select": TopR(1)},
}
GRID, HEADS, DIM = (3, 9, 5), 2, 8


@pytest.mark.parametrize(("size", "rows"), [(2, (4, 5)), (4, (2, 2, 4, 1))])
def test_strips_see_the_whole(size, rows):
    for found in ranks(size, _errors, rows):
        assert found.keys() == {*CASES, "uneven"}
        for name, error in found.items():
            assert error < 1e-12, name


def _errors(rows):
    from torch import distributed as dist

    dist.init_process_group("gloo")
    errors = {name: _error(rows, **{"block": (2, 2, 2), "grid_q": GRID, **case}) for name, case in CASES.items()}
    try:
        wrong = (1, *rows[1:-1], rows[-1] + rows[0] - 1)
        _run(wrong, torch.zeros(1, 1, 15, 1), *[torch.zeros(1, 1, 15, 1)] * 2, grid_q=GRID, select=TopR(1))
    except ValueError:
        errors["uneven"] = 0.0
    return errors


def _run(rows, q, k, v, **options):
    from torch import distributed as dist

    return ring_block_sparse_attention(q, k, v, group=dist.group.WORLD, rows=rows, grid_k=GRID, **options)


def _error(rows, **options):
    """Largest difference of this rank's outputs and gradients."""
    from torch import distributed as dist

    torch.manual_seed(0)
    grids = (options["grid_q"], GRID, GRID)
    whole = [torch.randn(2, HEADS, *grid, DIM, dtype=torch.float64, requires_grad=True) for grid in grids]
    weight = torch.randn_like(whole[0])
    rank = dist.get_rank()
    mine = slice(sum(rows[:rank]), sum(rows[: rank + 1]))
    part = [x.detach()[:, :, :, mine].clone().requires_grad_() for x in whole]

    expect = block_sparse_attention(*(x.flatten(2, 4) for x in whole), grid_k=GRID, **options)
    right = [expect.view(weight.shape), *torch.autograd.grad((expect * weight.flatten(2, 4)).sum(), whole)]
    out = _run(rows, *(x.flatten(2, 4) for x in part), **options)
    strip = weight[:, :, :, mine]
    found = [out.view(strip.shape), *torch.autograd.grad((out * strip.flatten(2, 4)).sum(), part)]
    return max(float((a - b[:, :, :, mine]).abs().max()) for a, b in zip(found, right, strict=True))
