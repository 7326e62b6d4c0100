"""Sparse attention on context ranks: both forms give what one process computes."""

import torch

from reelwright.kernels import put_back, put_in_order
from reelwright.model.attention import Layout
from reelwright.model.config import AttentionConfig, DiTConfig
from reelwright.model.dit import DiT
from reelwright.model.sparse import SparseAttention, use_attention
from reelwright.training.distributed.context import UlyssesAttention, context_parallel
from reelwright.training.distributed.ring import ring_attention
from reelwright.training.distributed.strips import Strips, TokenStrips
from reelwright.training.distributed.world import start
from reelwright.training.recipe import ParallelConfig
from tests.training.distributed.test_context import place_of
from tests.training.ranks import ranks

CONFIG = AttentionConfig(form="sparse", block=(2, 2, 2), keep=0.3)
LAYOUTS = {"plain": Layout(4, 7, 4), "condition": Layout(4, 7, 4, 2), "a short condition": Layout(4, 7, 4, 1),
           "cached": Layout(4, 7, 4, 0, 2), "an image": Layout(1, 7, 4)}  # fmt: skip


def test_strips_see_the_whole() -> None:
    for found in ranks(2, _errors):
        assert len(found) == 4 * len(LAYOUTS)
        assert all(error < 1e-12 for error in found.values()), found


def test_a_network_in_block_order_on_ranks_is_that_of_one_process() -> None:
    """7 rows in blocks of 2 on 2 ranks; 2 rows, fewer than blocks would be for both."""
    for found in ranks(2, _network_errors):
        assert found
        assert all(error < 1e-5 for error in found.values()), found


def _network_errors() -> dict[str, float]:
    world = start(ParallelConfig(context=2), device="cpu")
    config = DiTConfig(hidden_size=48, depth=2, num_heads=2, in_channels=4, caption_channels=8, adaln_tembed_dim=16)
    errors = {}
    for form, rows, clean in (("ulysses", 7, 0), ("ulysses", 7, 2), ("ulysses", 2, 1), ("ring", 7, 2)):
        model = DiT(config).init_weights()
        torch.manual_seed(0)
        for weight in model.parameters():
            weight.data.normal_(std=0.2)
        latents, text = torch.randn(1, 4, 5, 2 * rows, 10), torch.randn(1, 3, 8)
        attend = use_attention(model, CONFIG)
        with torch.no_grad():
            whole = model(latents, torch.tensor([300.0]), text, cond_frames=clean)
            context = context_parallel(model, ParallelConfig(context=2, context_form=form), world, attend)
            mine = context.strips.divide(rows, 5)
            part = mine.cut(latents, config.patch_size)
            strip = model(part, torch.tensor([300.0]), text, cond_frames=clean, origin=mine.origin)
        expect = mine.cut(whole, config.patch_size)
        errors[f"{form} {rows} {clean}"] = float((strip - expect).abs().max() / whole.abs().max())
    return errors


def _errors() -> dict[str, float]:
    world = start(ParallelConfig(context=2), device="cpu")
    assert world.context_group is not None
    errors = {}
    for form in ("ulysses", "ring"):
        place = world.context_group, world.context_rank, world.context_size
        inner = SparseAttention(CONFIG)
        strips = Strips(*place) if form == "ring" else TokenStrips(*place)
        attend = ring_attention(strips, inner) if form == "ring" else UlyssesAttention(strips, inner)
        for name, layout in LAYOUTS.items():
            for order in ("raster", "block"):
                errors[f"{form} {name} {order}"] = _error(attend, strips, layout, order)
    return errors


def _error(attend, strips: Strips | TokenStrips, layout: Layout, order: str) -> float:
    torch.manual_seed(0)
    at, here = place_of(strips.divide(layout.rows, layout.columns), layout)
    frames = layout.frames - layout.cached_frames, layout.frames, layout.frames
    whole = [torch.randn(1, 2, f, layout.frame_tokens, 8, dtype=torch.float64).requires_grad_() for f in frames]
    part = [x.detach()[:, :, :, at].clone().requires_grad_() for x in whole]
    weight = torch.randn_like(whole[0])
    expect = SparseAttention(CONFIG)(*(x.flatten(2, 3) for x in whole), layout)
    right = [expect.view(weight.shape), *torch.autograd.grad(expect, whole, weight.flatten(2, 3))]
    out = _attended(attend, [x.flatten(2, 3) for x in part], here, order)
    strip = weight[:, :, :, at]
    found = [out.reshape(strip.shape), *torch.autograd.grad(out, part, strip.flatten(2, 3))]
    return max(float((a - b[:, :, :, at]).abs().max()) for a, b in zip(found, right, strict=True))


def _attended(attend, strip: list[torch.Tensor], layout: Layout, order: str) -> torch.Tensor:
    """The strip's outputs in (t, h, w) order, computed in one of the orders."""
    arrange = getattr(attend, "arrange", None)  # Ulysses' parts are in (t, h, w) order
    if order == "raster" or arrange is None or arrange(layout).block is None:
        return attend(*strip, layout)
    arranged = arrange(layout)
    queries, keys = arranged.grids
    q, k, v = (put_in_order(x, grid) for x, grid in zip(strip, (queries, keys, keys), strict=True))
    return put_back(attend(q, k, v, arranged), queries)
