"""The refinement loss against equations 11 to 14, and against flow matching at threshold 1."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reelwright.model.refinement.noise import refinement_sigmas
from reelwright.model.sampling.schedules import Schedule, shifted
from reelwright.training.batch import PairBatch, Strip, draw
from reelwright.training.distributed.world import World
from reelwright.training.errors import TrainError
from reelwright.training.objectives.flow import T_SCALE, FlowConfig, flow_loss
from reelwright.training.objectives.refinement import (
    RefinementConfig,
    add_noise,
    levels_of,
    on_the_way,
    refinement_loss,
)
from reelwright.training.recipe import TrainRecipe
from tests.training.batches import make_batch

KINDS = [("t2i", 0, 1), ("t2v", 0, 3), ("i2v", 1, 3), ("continuation", 2, 4)]


def pairs(**options) -> PairBatch:
    batch = make_batch(**options)
    generator = torch.Generator().manual_seed(5)
    return PairBatch.of(batch, batch.latents + 0.3 * torch.randn(batch.latents.shape, generator=generator))


def exact(batch, scale=1.0):
    """A network that knows x0: from x_t' + t' v = x0 follows v = (x0 - x_t') / t'."""

    def predict(x, t, text, *, cond_frames, origin):
        rows = slice(origin[1] * 2, origin[1] * 2 + x.shape[3])
        level = (t / T_SCALE).clamp_min(1e-12)[:, None, :, None, None]
        return scale * (batch.latents[..., rows, :] - x) / level

    return predict


@given(st.floats(0.05, 1), st.floats(0, 1))
def test_identities_of_the_path_in_float64(threshold, share):
    generator = torch.Generator().manual_seed(2)
    x0, up, noise = (torch.randn(1, 4, 2, 2, 2, dtype=torch.float64, generator=generator) for _ in range(3))
    level = torch.tensor(share * threshold, dtype=torch.float64)
    x, v = on_the_way(x0, up, noise, level, threshold)
    close = {"rtol": 0, "atol": 1e-12}
    torch.testing.assert_close(x + level * v, x0, **close)
    share_of = level / threshold
    torch.testing.assert_close(x, (1 - share_of) * x0 + share_of * (1 - threshold) * up + level * noise, **close)
    torch.testing.assert_close(v, (x0 - noise) + (1 - threshold) / threshold * (x0 - up), rtol=0, atol=1e-11)
    at_threshold, _ = on_the_way(x0, up, noise, torch.tensor(threshold, dtype=torch.float64), threshold)
    torch.testing.assert_close(at_threshold, (1 - threshold) * up + threshold * noise, **close)


@pytest.mark.parametrize(("task", "cond_frames", "frames"), KINDS)
def test_an_exact_predictor_has_no_loss_and_its_negative_has(task, cond_frames, frames):
    batch = pairs(task=task, cond_frames=cond_frames, frames=frames)
    assert refinement_loss(exact(batch), batch, RefinementConfig()).total < 1e-6
    assert (refinement_loss(exact(batch, scale=-1), batch, RefinementConfig()).per_sample > 1).all()


@pytest.mark.parametrize(("task", "cond_frames", "frames"), KINDS)
def test_at_threshold_1_it_is_the_base_loss(task, cond_frames, frames):
    batch = pairs(task=task, cond_frames=cond_frames, frames=frames)
    base = FlowConfig(weighting="uniform", condition_noise=0)
    shift = base.timestep_shift((frames - cond_frames) * 2 * 2)  # 4 x 4 latents in tokens of 2 x 2
    full = RefinementConfig(threshold=1, levels="sampled", shift=shift)
    predict = lambda x, t, *_, **__: torch.sin(3 * x) + t[:, None, :, None, None] / T_SCALE  # noqa: E731
    found, expected = refinement_loss(predict, batch, full), flow_loss(predict, batch, base)
    assert torch.equal(found.total, expected.total)
    assert torch.equal(found.per_sample, expected.per_sample)
    assert torch.equal(found.t, expected.t)
    t = torch.tensor([0.25, 0.75])
    assert torch.equal(refinement_loss(predict, batch, full, t=t).total, flow_loss(predict, batch, base, t=t).total)


def test_condition_frames_are_clean_and_carry_no_loss():
    batch = pairs(task="continuation", cond_frames=2, frames=4)
    noised = add_noise(batch, RefinementConfig())
    assert torch.equal(noised.x[:, :, :2], batch.latents[:, :, :2])
    assert (noised.t[:, :2] == 0).all()
    assert (noised.t[:, 2:] > 0).all()

    def spoiled(x, *args, **options):
        out = exact(batch)(x, *args, **options)
        out[:, :, :2] = 1e6
        return out

    assert refinement_loss(spoiled, batch, RefinementConfig()).total < 1e-6


@given(st.floats(0.05, 1), st.floats(1, 30))
def test_both_laws_fill_the_levels_up_to_the_threshold(threshold, shift):
    u = torch.linspace(0, 1, 101, dtype=torch.float64)
    for law in ("uniform", "sampled"):
        levels = levels_of(u, RefinementConfig(threshold=threshold, levels=law, shift=shift))
        assert (levels.diff() > 0).all()
        assert levels[0] == 0
        assert levels[-1].item() == pytest.approx(threshold, rel=1e-12)


def test_the_sampled_law_is_as_dense_as_the_sampler_s_levels():
    """Whatever the size: as many draws between two of its levels as between any others, but the ends."""
    config = RefinementConfig(levels="sampled")
    levels = refinement_sigmas(config.threshold, Schedule(shift=config.shift)).flip(0)
    for side, frames in ((4, 1), (16, 3)):
        batch = pairs(side=side, frames=frames, samples=4)
        u = torch.linspace(0, 1, 4, dtype=torch.float64)
        batch = replace(batch, draws=replace(draw(batch.seeds, batch.latents.shape), u=u))
        assert torch.equal(add_noise(batch, config).t[:, -1], levels_of(u, config).float())
    counts = torch.histogram(levels_of(torch.linspace(0, 1, 40_001).double(), config), levels).hist
    assert (counts[1:-1] / counts[1:-1].mean() - 1).abs().max() < 0.001


def test_the_sampled_law_is_flow_matchings_where_that_is_below_the_threshold():
    u = torch.rand(200_000, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    below = shifted(u, 12.0)
    below = below[below <= 0.5].sort().values
    found = levels_of(torch.linspace(0, 1, len(below), dtype=torch.float64), RefinementConfig(levels="sampled"))
    assert (found - below).abs().max() < 0.02  # Kolmogorov's distance of 15,000 draws is 0.011 at 5 %


def test_losses_of_strips_add_up():
    batch = pairs(frames=3, side=8)
    predict = lambda x, *_, **__: torch.sin(x)  # noqa: E731
    whole = refinement_loss(predict, batch, RefinementConfig()).total
    parts = [
        refinement_loss(predict, replace(batch, strip=Strip(first, 2)), RefinementConfig()).total for first in (0, 2)
    ]
    torch.testing.assert_close(sum(parts), whole)


def test_moving_a_batch_moves_both_latents():
    moved = pairs().to(torch.device("meta"))
    assert moved.latents.is_meta
    assert moved.upsampled.is_meta


@pytest.mark.parametrize(
    ("sections", "why"),
    [
        ({}, "the recipe makes none; add data.pair"),
        ({"data": {"pair": {}}, "samples": {"every": 5, "prompts": ["x"]}}, "samples.every makes videos from noise"),
    ],
)
def test_recipes_that_cannot_refine_are_refused_by_a_plan_as_by_a_run(sections, why):
    from reelwright.pipelines.train.memory_estimate import print_plan

    recipe = TrainRecipe.model_validate({"objective": {"kind": "refinement"}, **sections})
    with pytest.raises(TrainError, match=why) as by_run:
        recipe.objective.build(torch.nn.Identity(), recipe, World.alone("cpu"))
    said: list[str] = []
    with pytest.raises(TrainError) as by_plan:
        print_plan(recipe, gpu_memory_gb=80, peak_tflops=100, say=said.append)
    assert str(by_plan.value) == str(by_run.value)
    assert not said
