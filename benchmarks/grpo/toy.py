"""The stochastic step where everything is known: data N(0.7, 0.5²), its exact velocity, float64."""

import argparse

import torch
from torch import Tensor

from reelwright.model.sampling.schedules import sigmas
from reelwright.model.sampling.sde import NoiseSize, StochasticStep
from reelwright.training.objectives.grpo import GrpoConfig

MEAN, VARIANCE = 0.7, 0.25
ELIGIBLE = 6  # first steps from which the published recipe draws the stochastic one


def print_toy(args: argparse.Namespace) -> None:
    levels, noise = sigmas(args.steps, args.shift), NoiseSize(cap=args.tau)
    print_steps(levels, noise)
    print_gradients(levels, noise)
    print_spreads(levels, noise, args)
    print_calls(args.steps)


def print_steps(levels: Tensor, noise: NoiseSize) -> None:
    """Print the table of steps: raw s without the cut, s, κ, weights, and what the report's gives in place of 3/2."""
    step, free = (StochasticStep.of(levels[:-1], levels[1:], n) for n in (noise, NoiseSize(cap=float("inf"))))
    exact, reported = step.weights("exact")[0], step.weights("report", levels[1])[0]
    print(" step        t        Δ    raw s       s    kappa  λ report   λ exact  report · κ")
    for k in range(len(levels) - 1):
        t, delta = float(levels[k]), float(levels[k] - levels[k + 1])
        print(
            f"{k:5d} {t:8.5f} {delta:8.5f} {free.std[k]:8.3f} {step.std[k]:7.3f} {step.kappa[k]:8.5f} "
            f"{reported[k]:9.2f} {exact[k]:9.2f} {reported[k] * step.kappa[k]:11.3f}"
        )


def print_gradients(levels: Tensor, noise: NoiseSize) -> None:
    """Print the largest relative error of κ ε x and κ² (v - v_ref) x against autograd, over the eligible steps."""
    generator, worst = torch.Generator().manual_seed(0), {"policy": 0.0, "kl": 0.0}
    for k in range(min(ELIGIBLE, len(levels) - 2)):
        step = StochasticStep.of(levels[k : k + 1], levels[k + 1 : k + 2], noise)
        x, drawn = torch.randn(2, 1, 16, generator=generator, dtype=torch.float64)
        weight, other = torch.randn(2, 16, 16, generator=generator, dtype=torch.float64)
        weight.requires_grad_()
        v, reference = x @ weight.T, step.mean(x, x @ other.T)
        mean = step.mean(x, v)
        after = step.after(mean, drawn).detach()
        log_prob, kl = step.log_prob((after - mean).square().mean(1)), step.kl((mean - reference).square().mean(1))
        policy, divergence = step.weights("exact")
        away = (v - x @ other.T).detach()
        for name, found, expect in (
            ("policy", policy * log_prob, 1.5 * torch.outer(drawn[0], x[0]) / 16),
            ("kl", divergence * kl, 2.25 * torch.outer(away[0], x[0]) / 16),
        ):
            (gradient,) = torch.autograd.grad(found.sum(), weight, retain_graph=True)
            worst[name] = max(worst[name], float((gradient - expect).norm() / expect.norm()))
    for name, error in worst.items():
        print(f"gradient.{name}: weighted by exact λ, against its closed form, relative error {error:.1e}")


def print_spreads(levels: Tensor, noise: NoiseSize, args: argparse.Namespace) -> None:
    print(f"spread of data: {VARIANCE**0.5:.3f}")
    print(f"spread.ode {solved(levels, noise, args.samples, at=()).std():.4f}")
    for k in args.critical:
        print(f"spread.one_stochastic_step_at_{k} {solved(levels, noise, args.samples, at=(k,)).std():.4f}")
        printed = solved(levels, noise, args.samples, at=(k,), sign=-1)
        print(f"spread.printed_sign_at_{k} {printed.std():.4f}")
    every = range(len(levels) - 2)
    print(f"spread.printed_sign_everywhere {solved(levels, noise, args.samples, at=every, sign=-1).std():.4f}")
    print(f"spread.stochastic_everywhere {solved(levels, noise, args.samples, at=every).std():.4f}")


def solved(levels: Tensor, noise: NoiseSize, samples: int, *, at: "tuple[int, ...] | range", sign: int = 1) -> Tensor:
    """Return samples of the ODE with stochastic steps at some places.

    Args:
        levels: float64 [N + 1].
        noise: size of the added noise.
        samples: their number.
        at: which steps are stochastic.
        sign: of the drift's term with the noise; -1: as printed in the report's eq. 23 beside v = x0 - ε and +Δ.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(samples, generator=generator, dtype=torch.float64)
    for k in range(len(levels) - 1):
        t, delta = levels[k], levels[k] - levels[k + 1]
        v = velocity(x, t)
        if k not in at:
            x = x + delta * v
            continue
        step = StochasticStep.of(levels[k : k + 1], levels[k + 1 : k + 2], noise)
        mean = step.mean(x, v)
        if sign < 0:
            mean = 2 * (x + delta * v) - mean
        x = mean + step.std * torch.randn(samples, generator=generator, dtype=torch.float64)
    return x


def velocity(x: Tensor, t: Tensor) -> Tensor:
    """Return E[x0 - ε | x] of the toy's data."""
    variance = (1 - t).square() * VARIANCE + t.square()
    believed = MEAN + (1 - t) * VARIANCE / variance * (x - (1 - t) * MEAN)
    return (believed - x) / t


def print_calls(steps: int) -> None:
    for group in (2, 4, 8):
        config = GrpoConfig(
            rewards={"sharpness_standin": {}}, group=group, steps=steps, critical=min(ELIGIBLE, steps - 1)
        )  # fmt: skip
        alone, at = group * steps, config.critical_mean
        without = at + group * (steps - at)
        print(
            f"calls.group_of_{group}: {config.shared_calls:.1f} of {alone} ({config.shared_calls / alone - 1:+.1%}); "
            f"without sharing the stochastic step's call {without:.1f}; trained passes 1 of {group} "
            f"({1 / group - 1:+.0%})"
        )
