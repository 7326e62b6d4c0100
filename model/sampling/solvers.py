"""Solvers: from noise at σ = 1 down the sigmas to data.

The network predicts v = x0 - noise at t = 1000 σ, where x_σ = (1-σ) x0 + σ noise; so dx/dσ = -v, and a step of Euler
from σ down to σ' adds (σ - σ') v. Another solver is any function or object with the signature of `Solver`, given to
`Generator.sample_latents` or `denoise`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

TIMESTEPS = 1000  # t of pure noise

Predict = Callable[[Tensor, Tensor], Tensor]
"""(x, t [B] in 0..1000) -> x0 - noise, like x."""


@dataclass(frozen=True)
class Solution:
    """The result of a solver. A solver that returns more subclasses it.

    latents: [B, …] at the last sigma. log_probs: float32 [B, steps] of each step's draw, for stochastic solvers.
    """

    latents: Tensor
    log_probs: Tensor | None = None


class Solver(Protocol):
    """Goes from noise to data."""

    def __call__(
        self,
        predict: Predict,
        noise: Tensor,
        sigmas: Tensor,
        *,
        generators: Sequence[torch.Generator] = (),
        on_step: Callable[[], None] | None = None,
    ) -> Solution:
        """Solve for x at sigmas[-1].

        Args:
            predict: the guided network.
            noise: x at sigmas[0], [B, …].
            sigmas: float64 [steps + 1], falling from 1 to 0.
            generators: on the CPU, one per sample, for noise that is added on the way: draws from them do not depend
                on the batch or the device.
            on_step: called after each step.
        """


def euler(
    predict: Predict,
    noise: Tensor,
    sigmas: Tensor,
    *,
    generators: Sequence[torch.Generator] = (),
    on_step: Callable[[], None] | None = None,
) -> Solution:
    """Solve the ODE by Euler's steps, as the published sampler does: one prediction per step, and no noise."""
    x = noise.float()
    for sigma, following in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
        x = x + (sigma - following) * predict(x, timesteps(sigma, x)).float()
        if on_step is not None:
            on_step()
    return Solution(x)


def timesteps(sigma: float, x: Tensor) -> Tensor:
    """Return t [B] of a sigma, for each sample of x."""
    return torch.full((len(x),), sigma * TIMESTEPS, device=x.device)


def denoise(
    predict: Predict,
    noise: Tensor,
    sigmas: Tensor,
    *,
    solver: Solver = euler,
    on_step: Callable[[], None] | None = None,
) -> Tensor:
    """Return the latents that a deterministic solver finds, [B, …]; see `Solver`."""
    return solver(predict, noise, sigmas, on_step=on_step).latents
