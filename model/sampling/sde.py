"""A stochastic step among Euler's steps, with its density: the policy of reinforcement learning.

In the project's convention x_t = (1 - t) x0 + t ε, v = x0 - ε and t falls by Δ > 0 per step, so that the score is
((1 - t) v - x) / t:

    (1) μ = x + Δ [v + σ² / (2t) ((1 - t) v - x)],  x' = μ + σ √Δ ε
    (2) s = σ √Δ = min(a √(tΔ / (1 - t)), τ), and s = τ at t = 1, where the quotient is infinite
    (3) log p(x' | x) = -|x' - μ|² / (2s²) - ln s - ½ ln 2π, a mean over the numbers of a sample
    (4) KL(μ, μ_ref) = |μ - μ_ref|² / (2s²) = κ² / 2 |v - v_ref|², a mean over the numbers too
    (5) κ = ∂μ/∂v / s = (√Δ / σ) (1 + σ² (1 - t) / (2t))
    (6) ∇ log p = κ ε ∇v, ∇ KL = κ² (v - v_ref) ∇v
    (7) exact weights: λ = (3/2) / κ of the policy and λ² of the KL. The gradients are then (3/2) ε ∇v and
        (9/4) (v - v_ref) ∇v at every step, whether s is cut at τ or not

With s for σ √Δ in drift and noise, μ = (1 - s² / (2t)) x + (Δ + s² (1 - t) / (2t)) v. Source: LongCat-Video technical
report (arXiv 2510.22200), section 3.3 and A.1, with these differences. Its eq. 23 prints the drift of u = ε - x0 beside
the v of eq. 3 and +Δ: the score's sign is wrong there. Its minus signs in eqs 26 to 38 belong to u too. Its weight
λ = √(t / (Δ (1 - t))), eq. 36, is eq. 7 only where τ does not cut (in its own recipe it cuts at every step but the
last), and infinite at t = 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from reelwright.model.errors import ModelError
from reelwright.model.sampling.solvers import Predict, Solution, timesteps

Weighting = Literal["exact", "report", "none"]

GAIN = 1.5
"""The policy's gradient after exact weights, eq. 7."""


@dataclass(frozen=True)
class NoiseSize:
    """Size of the added noise, eq. 2. scale: a. cap: τ."""

    scale: float = 1.0
    cap: float = 0.45

    def std(self, t: Tensor, following: Tensor) -> Tensor:
        """Return s, float64 like the levels t and the next lower ones."""
        cap = torch.full_like(t, self.cap)
        below = torch.where(t < 1, 1 - t, torch.ones_like(t))
        return torch.where(t < 1, (self.scale * (t * (t - following) / below).sqrt()).minimum(cap), cap)


@dataclass(frozen=True)
class StochasticStep:
    """Stochastic steps of B samples. t, following, std: float64 [B], noise levels before and after, and s."""

    t: Tensor
    following: Tensor
    std: Tensor

    @classmethod
    def of(cls, t: Tensor, following: Tensor, noise: NoiseSize) -> StochasticStep:
        """Make the steps from levels t down to the following ones, float64 [B]."""
        return cls(t, following, noise.std(t, following))

    @property
    def gain(self) -> Tensor:
        """∂μ/∂v = Δ + s² (1 - t) / (2t), float64 [B]."""
        return self.t - self.following + self.std.square() * (1 - self.t) / (2 * self.t)

    @property
    def kappa(self) -> Tensor:
        """κ of eq. 5, float64 [B]."""
        return self.gain / self.std

    def mean(self, x: Tensor, v: Tensor) -> Tensor:
        """Return μ of eq. 1, like x [B, …], which has at least fp32."""
        kept = 1 - self.std.square() / (2 * self.t)
        return per_sample(kept, x) * x + per_sample(self.gain, x) * v

    def after(self, mean: Tensor, noise: Tensor) -> Tensor:
        """Return x' of eq. 1; noise: standard normal, like the mean [B, …]."""
        return mean + per_sample(self.std, mean) * noise

    def log_prob(self, square: Tensor) -> Tensor:
        """Return log p of eq. 3, like `square`.

        Args:
            square: the mean over a sample's numbers of (x' - μ)², [B] or [B, G].
        """
        std = per_sample(self.std, square)
        return -square / (2 * std.square()) - std.log() - 0.5 * math.log(2 * math.pi)

    def kl(self, square: Tensor) -> Tensor:
        """Return the KL divergence of eq. 4, like `square`: the mean over a sample's numbers of (μ - μ_ref)²."""
        return square / (2 * per_sample(self.std, square).square())

    def weights(self, kind: Weighting, second: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
        """Return the weights of the policy's loss and of the KL, float64 [B] each.

        Args:
            kind: exact: eq. 7. report: eq. 36 of the report, right where τ does not cut. none: 1.
            second: the level after t = 1, which stands for the 1 in 1 - t there under `report`, as in public code.
        """
        if kind == "none":
            return torch.ones_like(self.t), torch.ones_like(self.t)
        if kind == "exact":
            policy = GAIN / self.kappa
        else:
            level = torch.where(self.t < 1, self.t, torch.ones_like(self.t) * second)
            policy = (self.t / ((self.t - self.following) * (1 - level))).sqrt()
        return policy, policy.square()


@dataclass(frozen=True)
class StochasticSolution(Solution):
    """With the stochastic step of each sample. before, mean, after: x, μ and x' there, like `latents`."""

    before: Tensor | None = None
    mean: Tensor | None = None
    after: Tensor | None = None


@dataclass(frozen=True)
class OneStochasticStep:
    """A `Solver`: Euler's steps, and one stochastic step per sample. critical: its index from pure noise, [B].

    Each sample goes its whole way, so it can sample from a policy anywhere that a solver is taken. Rollouts of training
    take the same steps, and compute once what a group shares (`training.rl.paths`).
    """

    critical: Sequence[int]
    noise: NoiseSize = NoiseSize()

    def __call__(
        self,
        predict: Predict,
        noise: Tensor,
        sigmas: Tensor,
        *,
        generators: Sequence[torch.Generator] = (),
        on_step: Callable[[], None] | None = None,
    ) -> StochasticSolution:
        """Solve for x at the last sigma; see `Solver`.

        Raises:
            ModelError: there is not one generator and one step per sample, or a step is the last, whose noise stays.
        """
        self._check(len(noise), len(sigmas) - 1, len(generators))
        critical, levels = torch.tensor(self.critical), sigmas.double()
        step = StochasticStep.of(levels[critical], levels[critical + 1], self.noise)
        x = noise.float()
        before, means, after = x, x, x
        for k, (level, following) in enumerate(zip(levels[:-1].tolist(), levels[1:].tolist(), strict=True)):
            v = predict(x, timesteps(level, x)).float()
            moved = x + (level - following) * v
            if here := [i for i, at in enumerate(self.critical) if at == k]:
                drawn = torch.stack([torch.randn(x.shape[1:], generator=generators[i]) for i in here])
                at = torch.zeros(len(x), dtype=torch.bool)
                at[here] = True
                at = per_sample(at, x, dtype=torch.bool)
                mean = step.mean(x, v)
                added = torch.zeros_like(x)
                added[here] = drawn.to(x)
                before, means = torch.where(at, x, before), torch.where(at, mean, means)
                after = torch.where(at, step.after(mean, added), after)
                moved = torch.where(at, after, moved)
            x = moved
            if on_step is not None:
                on_step()
        square = (after - means).square().flatten(1).mean(1)
        return StochasticSolution(x, step.log_prob(square)[:, None], before, means, after)

    def _check(self, samples: int, steps: int, generators: int) -> None:
        if not samples == len(self.critical) == generators:
            raise ModelError(
                f"{samples} samples with {len(self.critical)} stochastic steps and {generators} generators: one of "
                "each per sample is needed"
            )
        if not all(0 <= at < steps - 1 for at in self.critical):
            raise ModelError(
                f"stochastic steps {list(self.critical)} of {steps} steps: each must be 0 to {steps - 2}, as the noise "
                "of the last would stay in the sample"
            )


def per_sample(values: Tensor, like: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
    """Return numbers [B] in the type, and in a shape, that multiplies a tensor [B, …]."""
    return values.to(like.device, dtype or like.dtype, non_blocking=True).view(-1, *[1] * (like.ndim - 1))
