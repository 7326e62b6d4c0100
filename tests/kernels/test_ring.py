"""The ring on gloo ranks: what one process computes, whatever the number of ranks."""

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from reelwright.kernels import CDF, BlockGrid, TopR, block_sparse_attention, ring
from reelwright.kernels.ring import ring_block_sparse_attention
from tests.training.ranks import ranks

CASES = {
    "top r": {"select": TopR(0.3)},
    "cdf": {"select": CDF(0.5)},
    "condition": {"select": TopR(0.4), "cond_frames": 2},
    "two sizes": {"select": TopR(3), "block": ((2, 2, 2), (2, 2, 4))},
    "cached": {"select": TopR(0.3), "cond_frames": 1, "grid_q": (2, 9, 5)},
    "none of some ranks": {"select": TopR(1)},
    "fp32, scores past 16": {"select": TopR(0.6), "dtype": torch.float32, "peak": 7.0},
}
GRID, HEADS, DIM = (3, 9, 5), 2, 8


@pytest.mark.parametrize(("size", "rows"), [pytest.param(2, (4, 5), marks=pytest.mark.exhaustive), (4, (2, 2, 4, 1))])
def test_strips_see_the_whole(size, rows):
    for found in ranks(size, _errors, rows):
        assert found.keys() == {*CASES, "uneven"}
        for name, (error, *slopes) in found.items():
            room = (2e-6, 1e-5) if "fp32" in name else (1e-12, 1e-12)
            assert error < room[0], name
            assert max(slopes, default=0.0) < room[1], name


def test_lists_of_top_r_are_made_without_asking_a_number_of_the_device():
    """Tensors without storage have no numbers to ask for: whoever does fails."""
    blocks = BlockGrid((4, 8, 4), (2, 2, 2))
    strips = ring._Strips(None, 0, (4, 4), blocks, blocks)
    for rank in (0, 1):
        strips.blocks(blocks, rank, torch.device("cpu"))  # made once, before
        strips.grid(blocks, rank).offsets()
    with FakeTensorMode(allow_non_fake_inputs=True):
        mask = torch.empty(1, 2, 8, blocks.count, dtype=torch.bool)
        calls = ring._calls(mask, strips, 0.1, ring._most(TopR(0.3), strips))
        assert [call.indices.shape[-1] for call in calls] == [5, 5]  # ceil(0.3 · 16), of 8 per rank
        with pytest.raises(DataDependentOutputException):
            ring._calls(mask, strips, 0.1, None)


def _errors(rows):
    from torch import distributed as dist

    dist.init_process_group("gloo")
    errors = {name: _error(rows, **{"block": (2, 2, 2), "grid_q": GRID, **case}) for name, case in CASES.items()}
    try:
        wrong = (1, *rows[1:-1], rows[-1] + rows[0] - 1)
        _run(wrong, torch.zeros(1, 1, 15, 1), *[torch.zeros(1, 1, 15, 1)] * 2, grid_q=GRID, select=TopR(1))
    except ValueError:
        errors["uneven"] = [0.0]
    return errors


def _run(rows, q, k, v, **options):
    from torch import distributed as dist

    return ring_block_sparse_attention(q, k, v, group=dist.group.WORLD, rows=rows, grid_k=GRID, **options)


def _error(rows, *, dtype=torch.float64, peak=1.0, **options):
    """Largest differences of this rank's outputs and gradients from fp64's, over the largest output and gradient."""
    from torch import distributed as dist

    torch.manual_seed(0)
    grids = (options["grid_q"], GRID, GRID)
    sizes = (peak, peak, 1.0)
    whole = [torch.randn(2, HEADS, *g, DIM).mul(s).double().requires_grad_() for g, s in zip(grids, sizes, strict=True)]
    weight = torch.randn(whole[0].shape).double()
    rank = dist.get_rank()
    mine = slice(sum(rows[:rank]), sum(rows[: rank + 1]))
    part = [x.detach()[:, :, :, mine].to(dtype).requires_grad_() for x in whole]

    expect = block_sparse_attention(*(x.flatten(2, 4) for x in whole), grid_k=GRID, **options)
    right = [expect.view(weight.shape), *torch.autograd.grad((expect * weight.flatten(2, 4)).sum(), whole)]
    out = _run(rows, *(x.flatten(2, 4) for x in part), **options)
    strip = weight[:, :, :, mine].to(dtype)
    found = [out.view(strip.shape), *torch.autograd.grad((out * strip.flatten(2, 4)).sum(), part)]
    sizes = [float(right[0].abs().max()), *[max(float(x.abs().max()) for x in right[1:])] * 3]
    gaps = [float((a - b[:, :, :, mine]).abs().max()) for a, b in zip(found, right, strict=True)]
    return [gap / size for gap, size in zip(gaps, sizes, strict=True)]
