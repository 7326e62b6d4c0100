"""Attention over strips on several ranks is attention over the whole."""

import pytest
import torch

from reelwright.model.attention import Layout, dense_attention
from reelwright.training.distributed.context import UlyssesAttention, context_parallel
from reelwright.training.distributed.partial_attention import (
    backward_piece,
    backward_plain,
    forward_piece,
    forward_plain,
)
from reelwright.training.distributed.ring import RingAttention
from reelwright.training.distributed.strips import Strips
from reelwright.training.distributed.world import World, start
from reelwright.training.errors import TrainError
from reelwright.training.recipe import ParallelConfig
from tests.training.ranks import ranks
from tests.training.steps import tiny

COLUMNS, HEADS, DIM = 3, 6, 8
LAYOUTS = {
    "noisy alone": Layout(3, 5, COLUMNS),
    "two condition frames": Layout(3, 5, COLUMNS, cond_frames=2),
    "all condition": Layout(2, 5, COLUMNS, cond_frames=2),
    "one frame cached": Layout(3, 5, COLUMNS, cached_frames=1),
    "a row each": Layout(2, 3, COLUMNS, cond_frames=1),
}


def test_strips_see_the_whole() -> None:
    """Outputs and gradients of both forms, on 3 ranks, with rows that do not divide."""
    for found in ranks(3, _errors):
        assert len(found) == 2 * (len(LAYOUTS) + 1)
        for name, error in found.items():
            assert error < (0.03 if "bf16" in name else 1e-12), name


def _errors() -> dict[str, float]:
    parallel = ParallelConfig(context=3)
    world = start(parallel, device="cpu")
    assert world.context_group is not None
    strips = Strips(world.context_group, world.context_rank, world.context_size)
    errors = {}
    for attend in (UlyssesAttention(strips), RingAttention(strips)):
        form = type(attend).__name__
        for name, layout in LAYOUTS.items():
            errors[f"{form} {name}"] = _error(attend, strips, layout, torch.float64)
        errors[f"{form} bf16"] = _error(attend, strips, LAYOUTS["two condition frames"], torch.bfloat16)
    return errors


def _error(attend: object, strips: Strips, layout: Layout, dtype: torch.dtype) -> float:
    """Largest error of this rank's outputs and gradients, over their largest value."""
    torch.manual_seed(0)
    frames = layout.frames - layout.cached_frames, layout.frames, layout.frames
    whole = [torch.randn(2, HEADS, f, layout.rows, COLUMNS, DIM, dtype=torch.float64) for f in frames]
    weight = torch.randn_like(whole[0])
    mine = strips.divide(layout.rows)
    rows = slice(mine.first, mine.first + mine.rows)
    part = [x[:, :, :, rows].clone().to(dtype).requires_grad_() for x in whole]
    whole = [x.requires_grad_() for x in whole]

    expect = dense_attention(*(x.flatten(2, 4) for x in whole), layout)
    (expect * weight.flatten(2, 4)).sum().backward()
    here = Layout(layout.frames, mine.rows, COLUMNS, layout.cond_frames, layout.cached_frames)
    out = attend(*(x.flatten(2, 4) for x in part), here)  # type: ignore[operator]
    (out * weight[:, :, :, rows].flatten(2, 4)).sum().backward()

    strip = expect.unflatten(2, weight.shape[2:5])[:, :, :, rows].flatten(2, 4)
    pairs = [(out, strip)]
    for found, right in zip(part, whole, strict=True):
        assert found.grad is not None
        assert right.grad is not None
        pairs.append((found.grad, right.grad[:, :, :, rows]))
    return max(float((found - right).abs().max() / right.abs().max()) for found, right in pairs)


@pytest.mark.parametrize("keys", [1, 7])
def test_parts_of_keys_in_plain_operations_are_as_the_kernel_s(keys: int) -> None:
    """The path for machines without a fused kernel against the CPU's."""
    torch.manual_seed(0)
    q, k, v, grad = (torch.randn(2, 3, n, 8, dtype=torch.float64) for n in (1030, keys, keys, 1030))
    out, lse = forward_piece(q, k, v)
    plain = forward_plain(q, k, v)
    torch.testing.assert_close(plain, (out, lse))
    torch.testing.assert_close(plain[1], torch.logsumexp(q @ k.mT / 8**0.5, -1))
    torch.testing.assert_close(backward_plain(grad, q, k, v, out, lse), backward_piece(grad, q, k, v, out, lse))


@pytest.mark.parametrize(("rows", "expect"), [(5, (2, 2, 1)), (3, (1, 1, 1)), (30, (10, 10, 10))])
def test_rows_are_shared_out(rows: int, expect: tuple[int, ...]) -> None:
    found = [Strips(None, rank, 3) for rank in range(3)]  # type: ignore[arg-type]
    cut = [strips.divide(rows) for strips in found]
    assert found[0].rows == expect
    assert [c.rows for c in cut] == list(expect)
    assert [c.first for c in cut] == [sum(expect[:rank]) for rank in range(3)]


def test_too_few_rows_are_a_sentence() -> None:
    with pytest.raises(TrainError, match="only 2 rows of tokens to share"):
        Strips(None, 0, 3).divide(2)  # type: ignore[arg-type]


def test_heads_that_do_not_divide_are_a_sentence() -> None:
    assert all("does not divide the model's 4 heads" in said for said in ranks(3, _heads))


def _heads() -> str:
    parallel = ParallelConfig(context=3)
    try:
        context_parallel(tiny(), parallel, start(parallel, device="cpu"))
    except TrainError as error:
        return str(error)
    return ""


def test_alone_nothing_is_split() -> None:
    model = tiny()
    assert context_parallel(model, ParallelConfig(), World.alone("cpu")) is None
    assert model.blocks[0].attn.attend is dense_attention
