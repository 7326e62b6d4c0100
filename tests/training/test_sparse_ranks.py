"""Sparse attention on context ranks: both forms give what one process computes."""

from dataclasses import replace

import torch

from model.attention import Layout
from model.config import AttentionConfig
from model.sparse import SparseAttention
from tests.training.ranks import ranks
from training.context import Strips, UlyssesAttention
from training.recipe import ParallelConfig
from training.ring import ring_attention
from training.world import start

CONFIG = AttentionConfig(form="sparse", block=(2, 2, 2), keep=0.3)
LAYOUTS = {"plain": Layout(4, 7, 4), "condition": Layout(4, 7, 4, 2), "a short condition": Layout(4, 7, 4, 1),
           "cached": Layout(4, 7, 4, 0, 2), "an image": Layout(1, 7, 4)}  # fmt: skip


def test_strips_see_the_whole() -> None:
    for found in ranks(2, _errors):
        assert len(found) == 2 * len(LAYOUTS)
        assert all(error < 1e-12 for error in found.values()), found


def _errors() -> dict[str, float]:
    world = start(ParallelConfig(context=2), device="cpu")
    assert world.context_group is not None
    errors = {}
    for form in ("ulysses", "ring"):
        strips = Strips(world.context_group, world.context_rank, world.context_size)
        inner = SparseAttention(CONFIG)
        attend = ring_attention(strips, inner) if form == "ring" else UlyssesAttention(strips, inner)
        for name, layout in LAYOUTS.items():
            errors[f"{form} {name}"] = _error(attend, strips, layout)
    return errors


def _error(attend, strips: Strips, layout: Layout) -> float:
    torch.manual_seed(0)
    mine = strips.divide(layout.rows)
    frames = layout.frames - layout.cached_frames, layout.frames, layout.frames
    whole = [torch.randn(1, 2, f, layout.rows, layout.columns, 8, dtype=torch.float64).requires_grad_() for f in frames]
    rows = slice(mine.first, mine.first + mine.rows)
    part = [x.detach()[:, :, :, rows].clone().requires_grad_() for x in whole]
    weight = torch.randn_like(whole[0])
    expect = SparseAttention(CONFIG)(*(x.flatten(2, 4) for x in whole), layout)
    right = [expect.view(weight.shape), *torch.autograd.grad(expect, whole, weight.flatten(2, 4))]
    out = attend(*(x.flatten(2, 4) for x in part), replace(layout, rows=mine.rows))
    strip = weight[:, :, :, rows]
    found = [out.view(strip.shape), *torch.autograd.grad(out, part, strip.flatten(2, 4))]
    return max(float((a - b[:, :, :, rows]).abs().max()) for a, b in zip(found, right, strict=True))
