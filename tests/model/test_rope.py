"""Rotary positions against the formula, and their parts."""

import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from reelwright.model.rope import axis_dims, rotate, rotation


@pytest.mark.parametrize(("head_dim", "dims"), [(128, (44, 42, 42)), (6, (2, 2, 2)), (20, (8, 6, 6))])
def test_axes_share_the_head_dim(head_dim, dims):
    assert axis_dims(head_dim) == dims


@pytest.mark.parametrize("head_dim", [6, 16, 20])
def test_each_interleaved_pair_turns_by_its_axis_angle(head_dim):
    grid, origin = (2, 3, 4), (5, 0, 7)
    x = torch.randn(1, 2, 24, head_dim, dtype=torch.float64)
    found = rotate(x.float(), rotation(head_dim, grid, origin))
    expected = torch.empty_like(x)
    for token in range(24):
        place = (5 + token // 12, token // 4 % 3, 7 + token % 4)
        pair = 0
        for position, dim in zip(place, axis_dims(head_dim), strict=True):
            for i in range(dim // 2):
                angle = position * 10000 ** (-2 * i / dim)
                even, odd = x[:, :, token, 2 * pair], x[:, :, token, 2 * pair + 1]
                expected[:, :, token, 2 * pair] = even * math.cos(angle) - odd * math.sin(angle)
                expected[:, :, token, 2 * pair + 1] = even * math.sin(angle) + odd * math.cos(angle)
                pair += 1
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


def test_a_part_with_its_origin_is_the_part_of_the_whole():
    whole = rotation(20, (4, 6, 5)).view(4, 6, 5, 10, 2)
    part = rotation(20, (3, 2, 4), (1, 3, 1)).view(3, 2, 4, 10, 2)
    assert torch.equal(part, whole[1:4, 3:5, 1:])


def test_scores_depend_on_distance_alone():
    q, k = torch.randn(2, 1, 1, 24)
    scores = []
    for origin in [(0, 0, 0), (3, 8, 2)]:
        further = tuple(a + b for a, b in zip(origin, (1, 2, 3), strict=True))
        a, b = rotate(q, rotation(24, (1, 1, 1), origin)), rotate(k, rotation(24, (1, 1, 1), further))
        scores.append((a * b).sum())
    torch.testing.assert_close(*scores)


def test_the_type_stays_and_the_sum_is_in_fp32():
    x = torch.randn(1, 2, 12, 16)
    turn = rotation(16, (2, 2, 3))
    half = rotate(x.bfloat16(), turn)
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, rotate(x.bfloat16().float(), turn).bfloat16())


def test_compiled_is_eager():
    x, turn = torch.randn(1, 2, 12, 16), rotation(16, (2, 2, 3))
    compiled = torch.compile(rotate, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, turn), rotate(x, turn))


def test_nothing_is_kept_between_kinds_of_passes():
    """Tensors of inference mode or of fake tensors, if kept, break the training pass that comes next."""
    with torch.inference_mode():
        rotation(8, (1, 2, 2))
    with FakeTensorMode():
        rotation(8, (1, 2, 2))
    assert rotation(8, (1, 2, 2), device="meta").is_meta
    x = torch.randn(1, 1, 4, 8, requires_grad=True)
    rotate(x, rotation(8, (1, 2, 2))).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
