"""GRPO's loss against the computation that shares nothing, against closed forms, and on the policy itself."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from reelwright.model.lora.adapters import lora_parameters
from reelwright.model.sampling.sde import StochasticStep
from reelwright.training.batch import Batch
from reelwright.training.distributed.world import World
from reelwright.training.objectives.grpo import Grpo
from reelwright.training.recipe import TrainRecipe
from reelwright.training.rl.batch import StepBatch
from reelwright.training.rl.streams import critical_step, first_noise, step_noise
from tests.training.rl.rolling import NAMED, batch_of, network, rolling, save_base

ALONE = World.alone("cpu")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("published") / "model.safetensors")


def objective_of(recipe: TrainRecipe, *, std: float = 0.3) -> Grpo:
    return recipe.objective.build(network(recipe, std=std), recipe, ALONE)


def rolled(objective: Grpo, batch: Batch) -> StepBatch:
    """A rollout with made-up advantages."""
    generator = torch.Generator().manual_seed(5)
    worth = torch.randn(len(batch.seeds), objective.config.group, generator=generator)
    (made,) = objective.micro_batches(batch, objective.roll(batch), worth)
    return made


def gradient(objective: Grpo, loss: Tensor) -> list[Tensor]:
    student = [p for p in lora_parameters(objective.roles.model) if p.requires_grad]
    return list(torch.autograd.grad(loss, student))


@pytest.mark.parametrize("kind", range(3))
def test_on_the_policy_the_ratio_is_exactly_1_and_the_gradient_the_surrogate_s(base: Path, kind: int) -> None:
    """-(3/2) mean_i A_i ε_i · v + β (9/8) |v - v_ref|², both means over numbers: the same gradient by other means."""
    recipe = rolling(base)
    objective = objective_of(recipe)
    batch = batch_of(kind)
    made, clean = rolled(objective, batch), batch.cond_frames
    found = gradient(objective, objective.loss(made).total)
    figures = objective.metrics()
    assert (figures["ratio"], figures["ratio_off"], figures["velocity_off"]) == (1.0, 0.0, 0.0)
    assert figures["kl"] > 0
    noise = step_noise(batch.seeds, 3, batch.latents.shape[1:])
    with torch.no_grad(), objective.roles.playing("base"):
        reference = velocity_at(objective, made)
    v = velocity_at(objective, made)[:, :, clean:]
    pull = (made.advantages[:, :, None, None, None, None] * noise).mean(1)[:, :, clean:]
    numbers = v[0].numel()
    surrogate = -1.5 * (pull * v).sum() / numbers
    surrogate = surrogate + 0.1 * 9 / 8 * (v - reference[:, :, clean:]).square().sum() / numbers
    for one, other in zip(found, gradient(objective, surrogate / 2), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def velocity_at(objective: Grpo, batch: StepBatch) -> Tensor:
    t = batch.t[:, None].repeat(1, batch.latents.shape[2])
    t[:, : batch.cond_frames] = 0
    return objective.velocity(batch.latents, t, batch)


@pytest.mark.parametrize("kind", range(3))
@pytest.mark.parametrize("clip", [0.0, 1e-2])
def test_a_group_s_shared_pass_gives_the_loss_and_gradient_of_separate_ones(base: Path, kind: int, clip: float) -> None:
    """Off the policy: each sample alone, its whole way and a forward and backward pass of its own, written out."""
    recipe = rolling(base, {"clip": clip})
    objective = objective_of(recipe)
    batch = batch_of(kind)
    made = rolled(objective, batch)
    with torch.no_grad():  # the policy moves on, so that ratios are no longer 1
        for parameter in lora_parameters(objective.roles.model):
            parameter.mul_(1.5)
    loss = objective.loss(made)
    figures = objective.metrics()
    assert figures["ratio"] != pytest.approx(1, abs=1e-5)
    found = gradient(objective, loss.total)
    total, sums = 0.0, [torch.zeros_like(g) for g in found]
    for b in range(2):
        for i in range(3):
            alone = one_sample(objective, made, b, i)
            total += alone.item() / 6
            sums = [s + g / 6 for s, g in zip(sums, gradient(objective, alone), strict=True)]
    assert loss.total.item() == pytest.approx(total, rel=1e-6, abs=1e-6)
    for one, other in zip(found, sums, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


class Small64:
    """A velocity in float64, of a network of one hidden layer: the DiT computes parts of its own in fp32.

    Its `student` is added in all roles but the base's.
    """

    group = None

    def __init__(self, objective: Grpo) -> None:
        generator = torch.Generator().manual_seed(2)
        self.roles = objective.roles
        self.first, self.second, self.student = (
            0.3 * torch.randn(16, 16, generator=generator, dtype=torch.float64) for _ in range(3)
        )
        self.student.requires_grad_()

    def __call__(self, x: Tensor, t: Tensor, batch: Batch) -> Tensor:
        weight = self.first + (0 if self.roles.role == "base" else self.student)
        hidden = torch.tanh(torch.einsum("oc,bcthw->bothw", weight, x) + t[:, None, :, None, None])
        return torch.einsum("oc,bcthw->bothw", self.second, hidden)


@pytest.mark.parametrize("kind", range(3))
@pytest.mark.parametrize("clip", [0.0, 1e-2])
def test_in_float64_the_shared_gradient_is_that_of_separate_passes_to_1e_10(base: Path, kind: int, clip: float) -> None:
    objective = objective_of(rolling(base, {"clip": clip}))
    made = rolled(objective, batch_of(kind))
    for name in ("latents", "mean", "after", "advantages"):
        setattr(made, name, getattr(made, name).double())
    objective.velocity = small = Small64(objective)
    loss = objective.loss(made)
    assert loss.total.dtype == torch.float64
    assert objective.metrics()["kl"] > 0
    (found,) = torch.autograd.grad(loss.total, small.student)
    separate = sum(one_sample(objective, made, b, i) / 6 for b in range(2) for i in range(3))
    (expect,) = torch.autograd.grad(separate, small.student)
    assert loss.total.item() == pytest.approx(separate.item(), rel=1e-10)
    torch.testing.assert_close(found, expect, rtol=1e-10, atol=1e-10 * expect.abs().max().item())


def one_sample(objective: Grpo, made: StepBatch, b: int, i: int) -> Tensor:
    """Eqs 1 and 2 of one sample, with densities by torch's own normal distribution, in the type of its latents."""
    from dataclasses import replace

    from reelwright.training.rl.paths import chosen

    config, clean = objective.config, made.cond_frames
    own = replace(made, text=chosen(made.text, [b]), **{
        name: getattr(made, name)[b : b + 1]
        for name in ("latents", "t", "following", "second", "mean", "after", "advantages")
    })  # fmt: skip
    step = StochasticStep.of(own.t, own.following, objective.noise)
    with torch.no_grad(), objective.roles.playing("base"):
        reference = step.mean(own.latents, velocity_at(objective, own))[:, :, clean:]
    mean = step.mean(own.latents, velocity_at(objective, own))[:, :, clean:]
    after = own.after[:, i, :, clean:]
    std = step.std.to(mean)
    new, old = (torch.distributions.Normal(m, std).log_prob(after).mean() for m in (mean, own.mean[:, :, clean:]))
    ratio, worth = (new - old).exp(), own.advantages[0, i]
    gained = ratio * worth
    if config.clip:
        gained = torch.minimum(gained, ratio.clamp(1 - config.clip, 1 + config.clip) * worth)
    policy, divergence = step.weights("exact")
    away = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, std), torch.distributions.Normal(reference, std)
    ).mean()
    return -policy.to(mean)[0] * gained + config.beta * divergence.to(mean)[0] * away


@pytest.mark.parametrize("at_once", [0, 2, 3])
@pytest.mark.parametrize("kind", range(3))
def test_a_rollout_is_what_samples_that_share_nothing_find(base: Path, kind: int, at_once: int) -> None:
    recipe = rolling(base, {"videos_at_once": at_once, "critical": 3})
    objective = objective_of(recipe)
    batch = batch_of(kind)
    made = objective.roll(batch)
    parted = made.parted
    assert parted is not None
    assert parted.critical.tolist() == [critical_step(seed, 3) for seed in batch.seeds]
    calls = objective.paths.calls
    assert calls == sum(k + 1 + 3 * (4 - 1 - k) for k in parted.critical.tolist())
    assert objective.paths.alone == 2 * 3 * 4
    for b in range(2):
        for i in range(3):
            x, after, latents = alone_through(objective, batch, b, i)
            torch.testing.assert_close(parted.x[b], x[0], rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(parted.after[b, i], after[0], rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(made.latents[b, i], latents[0], rtol=1e-5, atol=1e-4)
    clean = batch.cond_frames
    assert torch.equal(made.latents[:, :, :, :clean], batch.latents[:, None, :, :clean].expand(-1, 3, -1, -1, -1, -1))
    assert not torch.equal(made.latents[0, 0], made.latents[0, 1])


@torch.no_grad()
def alone_through(objective: Grpo, batch: Batch, b: int, i: int) -> tuple[Tensor, Tensor, Tensor]:
    """One sample through all steps: x and x' of its stochastic step, and what it ends as."""
    from dataclasses import replace

    from reelwright.model.sampling.schedules import sigmas
    from reelwright.training.rl.paths import chosen

    clean, frames = batch.cond_frames, batch.latents.shape[2]
    own = replace(batch, latents=batch.latents[b : b + 1], text=chosen(batch.text, [b]))
    noisy_tokens = (frames - clean) * 4
    levels = sigmas(4, objective.config.timestep_shift(noisy_tokens))
    x = first_noise(batch.seeds[b : b + 1], batch.latents.shape[1:])
    drawn = step_noise(batch.seeds[b : b + 1], 3, batch.latents.shape[1:])[:, i]
    critical = critical_step(batch.seeds[b], objective.config.critical)
    x[:, :, :clean] = own.latents[:, :, :clean]
    before = after = x
    for k in range(4):
        t = levels[k].repeat(1, frames)
        t[:, :clean] = 0
        v = objective.velocity(x, t, own)
        here = x
        x = x + (levels[k] - levels[k + 1]).float() * v
        if k == critical:
            step = StochasticStep.of(levels[k : k + 1], levels[k + 1 : k + 2], objective.noise)
            before, x = here, step.after(step.mean(here, v), drawn)
        x[:, :, :clean] = own.latents[:, :, :clean]
        if k == critical:
            after = x.clone()
    return before, after, x


def test_sharing_saves_calls_and_training_as_the_formula_says(base: Path) -> None:
    """At G = 4, 16 steps and a step of the first 6: 53.5 guided predictions in place of 64, in the mean."""
    config = rolling(base, {"group": 4, "steps": 16, "critical": 6, "beta": 0}).objective
    counted = [k + 1 + 4 * (15 - k) for k in range(6)]
    assert config.shared_calls == sum(counted) / 6 == 53.5
    assert 1 - config.shared_calls / 64 == pytest.approx(0.164, abs=1e-3)
    assert config.passes.forward == 2 * 53.5
    anchored = rolling(base, {"group": 4, "steps": 16, "critical": 6, "beta": 0.1}).objective
    assert anchored.passes.forward == 2 * (53.5 + 1)  # the reference's
    assert config.passes.trained == 1  # the other half of the guidance: 2 passes a prompt, where 4 samples took 8


def test_clipping_acts_where_it_worsens_nothing_and_is_counted(base: Path) -> None:
    recipe = rolling(base, {"clip": 1e-4, "beta": 0.0})
    objective = objective_of(recipe)
    made = rolled(objective, batch_of())
    objective.loss(made)
    assert objective.metrics()["clipped"] == 0
    with torch.no_grad():
        for parameter in lora_parameters(objective.roles.model):
            parameter.mul_(2.0)
    made.advantages = torch.ones_like(made.advantages)
    loss = objective.loss(made)
    figures = objective.metrics()
    assert figures["clipped"] > 0
    assert figures["kl"] == 0
    assert loss.per_sample.shape == (2,)
    assert loss.total.item() == pytest.approx(loss.per_sample.sum().item() / 2)


def test_a_clipped_ratio_counts_as_the_end_of_its_range(base: Path) -> None:
    """As PPO's: r A, or the end of the range times A where that is less. Ratios are read from a loss without clip."""
    clip = 5e-4
    free, clipped = (objective_of(rolling(base, {"clip": c, "beta": 0.0, "weighting": "none"})) for c in (0.0, clip))
    made = rolled(free, batch_of())
    with torch.no_grad():
        for objective in (free, clipped):
            for parameter in lora_parameters(objective.roles.model):
                parameter.mul_(1.05)
        count, ends = made.advantages.shape[1], set()
        for member in range(count):
            for sign in (1.0, -1.0):
                made.advantages = torch.zeros_like(made.advantages)
                made.advantages[:, member] = sign
                ratio = -count * sign * free.loss(made).per_sample
                expect = torch.minimum(sign * ratio, sign * ratio.clamp(1 - clip, 1 + clip))
                torch.testing.assert_close(-count * clipped.loss(made).per_sample, expect, rtol=1e-6, atol=0)
                ends |= {(sign, bool(r > 1 + clip)) for r in ratio if abs(r - 1) > clip}
    assert ends == {(1.0, True), (1.0, False), (-1.0, True), (-1.0, False)}  # of all four kinds there are some


@pytest.mark.parametrize("weighting", ["report", "none"])
def test_other_weights_scale_the_policy_s_gradient(base: Path, weighting: str) -> None:
    exact, other = (objective_of(rolling(base, {"beta": 0.0, "weighting": w})) for w in ("exact", weighting))
    made = rolled(exact, batch_of(samples=1))
    step = StochasticStep.of(made.t, made.following, exact.noise)
    times = (step.weights(weighting, made.second)[0] / step.weights("exact")[0]).item()
    assert times != pytest.approx(1, abs=0.05)
    pairs = zip(gradient(exact, exact.loss(made).total), gradient(other, other.loss(made).total), strict=True)
    for one, two in pairs:
        torch.testing.assert_close(two, times * one, rtol=1e-4, atol=1e-7)


def test_in_bf16_the_velocity_tells_another_network_and_the_ratio_does_not(base: Path) -> None:
    """At the published shift and steps: a ratio is a mean over numbers and moves little, a velocity's RMS does not."""
    from reelwright.training.distributed.parallel import autocast

    published = {"steps": 16, "critical": 6, "reference_tokens": 32}  # shift 12 for its 32 tokens
    recipe = rolling(base, {**published, "beta": 0.0}, compute={"precision": "bf16", "checkpointing": "full"})
    objective = objective_of(recipe)
    batch = batch_of(0, side=8)
    with autocast(recipe.compute, torch.device("cpu")):
        made = rolled(objective, batch)
        objective.loss(made)
        same = objective.metrics()
        with torch.no_grad():
            for parameter in lora_parameters(objective.roles.model):
                parameter.mul_(-1.5)
            size = velocity_at(objective, made).square().mean().sqrt().item()
        objective.loss(made)
        other = objective.metrics()
    assert same["ratio_off"] < 1e-3
    assert same["velocity_off"] < 0.02 * size
    assert abs(other["ratio"] - 1) < 1e-3  # though the network is another one
    assert other["velocity_off"] > 0.2 * size
    assert other["ratio_off"] > same["ratio_off"]


def test_the_velocity_s_difference_is_that_of_the_two_networks(base: Path) -> None:
    objective = objective_of(rolling(base, {"beta": 0.0}))
    made = rolled(objective, batch_of(2))
    clean = made.cond_frames
    with torch.no_grad():
        before = velocity_at(objective, made)
        for parameter in lora_parameters(objective.roles.model):
            parameter.mul_(1.5)
        away = (velocity_at(objective, made) - before)[:, :, clean:]
    objective.loss(made)
    expect = away.square().flatten(1).mean(1).sqrt().mean().item()
    assert objective.metrics()["velocity_off"] == pytest.approx(expect, rel=1e-3)


def test_without_an_adapter_s_effect_there_is_no_divergence(base: Path) -> None:
    objective = objective_of(rolling(base), std=0.0)
    objective.loss(rolled(objective, batch_of()))
    assert objective.metrics()["kl"] == 0


def test_held_out_clips_are_measured_by_flow_matching(base: Path) -> None:
    """The meter of drift: the loss of the network alone, without guidance or rollouts."""
    from reelwright.training.objectives.flow import FlowConfig, flow_loss

    objective = objective_of(rolling(base))
    for kind in range(3):
        batch, t = batch_of(kind), torch.tensor([0.3, 0.8])
        flow = FlowConfig(reference_tokens=12 * 16)
        expect = flow_loss(objective.roles.model, batch, flow, t=t)
        torch.testing.assert_close(objective.loss(batch, t=t).per_sample, expect.per_sample)


@pytest.mark.parametrize(
    ("objective", "says"),
    [
        ({"rewards": {}}, "at least one reward"),
        ({"critical": 4}, "critical 4 must be below steps 4"),
        ({"held_out": {"redness": NAMED}}, "'redness' is under rewards and held_out"),
        ({"held_out": {"eye": NAMED}}, "held_out.eye is the same reward as rewards.brightness"),
        ({"guidance": 0.5}, "greater than or equal to 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(base: Path, objective: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        rolling(base, objective)
