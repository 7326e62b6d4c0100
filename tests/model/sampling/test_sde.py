"""The stochastic step against autograd, against the table of its weights, and as a solver against Euler's path."""

import pytest
import torch
from torch import Tensor

from reelwright.model.errors import ModelError
from reelwright.model.sampling.schedules import sigmas
from reelwright.model.sampling.sde import NoiseSize, OneStochasticStep, StochasticStep
from reelwright.model.sampling.solvers import euler

NOISE = NoiseSize()
LEVELS = sigmas(16, 12.0)
KAPPA = [0.01314, 0.01630, 0.02008, 0.02466, 0.03030, 0.03737]
"""Of steps 0 to 5 of 16 at shift 12, a 1, τ 0.45, from Δ/τ + τ (1 - t) / (2t), which is eq. 5 where τ cuts."""
REPORTED = [None, 158.05, 100.45, 73.12, 55.91, 43.67]


def steps_at(*places: int, noise: NoiseSize = NOISE) -> StochasticStep:
    at = torch.tensor(places)
    return StochasticStep.of(LEVELS[at], LEVELS[at + 1], noise)


def test_kappa_and_weights_are_those_of_the_published_grid() -> None:
    step = steps_at(*range(6))
    assert step.kappa.tolist() == pytest.approx(KAPPA, rel=5e-4)
    policy, kl = step.weights("exact")
    assert policy.tolist() == pytest.approx([114.20, 92.02, 74.70, 60.83, 49.51, 40.13], rel=2e-4)
    assert torch.equal(kl, policy.square())
    reported, squared = step.weights("report", LEVELS[1])
    assert reported[1:].tolist() == pytest.approx(REPORTED[1:], rel=1e-4)
    assert reported[0].item() == pytest.approx(1 / (1 - LEVELS[1].item()), rel=1e-12)
    assert torch.equal(squared, reported.square())
    assert step.weights("none")[0].tolist() == [1.0] * 6


def test_the_cap_acts_on_every_step_but_the_last() -> None:
    raw = steps_at(*range(1, 16), noise=NoiseSize(cap=10.0)).std
    assert raw[:-1].min() > NOISE.cap > raw[-1]
    assert steps_at(*range(15)).std.unique().tolist() == [NOISE.cap]


def test_the_noise_is_that_of_equation_2_by_hand() -> None:
    """Where the cap does not cut, s² = a² t Δ / (1 - t); from the last level, Δ = t. At t = 1 it is the cap."""
    t, size = LEVELS[15].item(), NOISE.std(LEVELS[15:16], LEVELS[16:]).item()
    assert size == pytest.approx(t / (1 - t) ** 0.5, rel=1e-12)
    assert NoiseSize(scale=0.5).std(LEVELS[15:16], LEVELS[16:]).item() == pytest.approx(size / 2, rel=1e-12)
    t, after = LEVELS[1:2], LEVELS[2:3]
    expect = (t * (t - after) / (1 - t)).sqrt()
    torch.testing.assert_close(NoiseSize(cap=10.0).std(t, after), expect, rtol=1e-12, atol=0)
    assert NoiseSize(cap=10.0).std(LEVELS[:1], LEVELS[1:2]).item() == 10.0


@pytest.mark.parametrize("cap", [0.45, 10.0], ids=["capped", "free"])
def test_gradients_of_density_and_divergence_are_what_the_formulas_say(cap: float) -> None:
    """Of a linear network v = W x, in float64; with exact weights 3/2 ε x and 9/4 (v - v_ref) x at each step."""
    places = range(6) if cap < 1 else range(1, 6)  # without a cap the noise at t = 1 is the cap itself
    generator = torch.Generator().manual_seed(0)
    for place in places:
        step = steps_at(place, noise=NoiseSize(cap=cap))
        x, drawn, weight = (torch.randn(1, *shape, generator=generator).double() for shape in ((5,), (5,), (5, 5)))
        weight = weight[0].requires_grad_()
        reference = (weight + 0.1 * torch.randn(5, 5, generator=generator).double()).detach()
        v = x @ weight.T
        after = step.after(step.mean(x, v), drawn).detach()
        log_prob = step.log_prob((after - step.mean(x, v)).square().mean(1))
        (found,) = torch.autograd.grad(log_prob.sum(), weight)
        expect = step.kappa * torch.outer(drawn[0], x[0]) / 5
        torch.testing.assert_close(found, expect, rtol=1e-10, atol=1e-12)
        policy, kl = step.weights("exact")
        torch.testing.assert_close(policy * found, 1.5 * torch.outer(drawn[0], x[0]) / 5, rtol=1e-10, atol=1e-12)
        v = x @ weight.T
        away = v - x @ reference.T
        divergence = step.kl((step.mean(x, v) - step.mean(x, x @ reference.T)).square().mean(1))
        torch.testing.assert_close(divergence, step.kappa.square() / 2 * away.square().mean(1), rtol=1e-10, atol=0)
        (found,) = torch.autograd.grad(divergence.sum(), weight)
        expect = torch.outer(away[0], x[0]).detach() / 5
        torch.testing.assert_close(found, step.kappa.square() * expect, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(kl * found, 2.25 * expect, rtol=1e-10, atol=1e-12)


def test_the_density_is_the_normal_one() -> None:
    step = steps_at(3)
    x, v, drawn = torch.randn(3, 1, 7, dtype=torch.float64)
    mean = step.mean(x, v)
    after = step.after(mean, drawn)
    normal = torch.distributions.Normal(mean, step.std)
    torch.testing.assert_close(step.log_prob((after - mean).square().mean(1)), normal.log_prob(after).mean(1))


def test_without_noise_it_is_a_step_of_euler() -> None:
    step = StochasticStep(LEVELS[2:3], LEVELS[3:4], torch.zeros(1, dtype=torch.float64))
    x, v = torch.randn(2, 1, 7, dtype=torch.float64)
    torch.testing.assert_close(step.mean(x, v), x + (LEVELS[2] - LEVELS[3]) * v, rtol=1e-12, atol=0)


def normal_data(x: Tensor, t: Tensor) -> Tensor:
    """Return the exact velocity of data N(0.7, 0.5²)."""
    t = (t / 1000).view(-1, *[1] * (x.ndim - 1)).to(x)
    variance = (1 - t).square() * 0.25 + t.square()
    believed = 0.7 + (1 - t) * 0.25 / variance * (x - (1 - t) * 0.7)
    return (believed - x) / t


def test_one_stochastic_step_leaves_the_spread_of_euler() -> None:
    """A printed sign of the drift would end 19 % too wide; see `benchmarks.grpo` for all of its table."""
    noise = torch.randn(64, 5000, generator=torch.Generator().manual_seed(1))
    generators = [torch.Generator().manual_seed(i) for i in range(64)]
    spread = euler(normal_data, noise, LEVELS).latents.std().item()
    found = OneStochasticStep([3] * 32 + [0] * 32)(normal_data, noise, LEVELS, generators=generators).latents
    assert found[:32].std().item() == pytest.approx(spread, rel=0.02)
    assert found[32:].std().item() == pytest.approx(spread, rel=0.02)


def test_a_sample_s_path_is_euler_s_up_to_its_step_and_after_it() -> None:
    noise = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(1))
    critical = [0, 2, 4]

    def solve(seeds: list[int], of: list[int]) -> dict[str, Tensor]:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        made = OneStochasticStep([critical[i] for i in of])(normal_data, noise[of], LEVELS, generators=generators)
        return vars(made)

    whole = solve([5, 6, 7], [0, 1, 2])
    for i, at in enumerate(critical):
        alone = solve([5 + i], [i])
        for name, value in alone.items():
            torch.testing.assert_close(value[0], whole[name][i], rtol=1e-6, atol=1e-6)
        before = euler(normal_data, noise[i : i + 1], LEVELS[: at + 1]).latents
        torch.testing.assert_close(alone["before"], before)
        torch.testing.assert_close(euler(normal_data, alone["after"], LEVELS[at + 1 :]).latents, alone["latents"])
        drawn = torch.randn(2, 4, generator=torch.Generator().manual_seed(5 + i))
        torch.testing.assert_close((alone["after"] - alone["mean"])[0], 0.45 * drawn)
        assert alone["log_probs"].shape == (1, 1)


@pytest.mark.parametrize(("critical", "seeds"), [([15, 0], 2), ([0], 2), ([0, 0], 1), ([-1, 0], 2)])
def test_steps_that_cannot_be_are_refused(critical: list[int], seeds: int) -> None:
    generators = [torch.Generator() for _ in range(seeds)]
    with pytest.raises(ModelError, match="stochastic steps"):
        OneStochasticStep(critical)(normal_data, torch.randn(2, 4), LEVELS, generators=generators)
