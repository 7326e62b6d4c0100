"""From noise to latents: the sigmas, the guidance and Euler's steps of the published sampler.

The network predicts v = x0 - noise at t = 1000 σ, where x_σ = (1-σ) x0 + σ noise; so dx/dσ = -v, and a step from σ down
to σ' adds (σ - σ') v.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from reelwright.model.errors import ModelError

TIMESTEPS = 1000  # t of pure noise
LAST_SIGMA = 0.001  # before the shift; 0 comes after it
SHIFT = 12.0
DISTILLED_POINTS = 50  # the distilled network knows t = 20, 40 … 1000

Rule = Literal["cfg-zero", "cfg"]
Predict = Callable[[Tensor, Tensor], Tensor]  # (x, t [B] in 0..1000) -> x0 - noise, like x


def sigmas(steps: int, shift: float = SHIFT) -> Tensor:
    """float64 [steps + 1]: linspace(1, 0.001, steps), shifted, then 0."""
    if steps < 1:
        raise ModelError(f"{steps} sampling steps: at least one is needed")
    return _with_end(shifted(torch.linspace(1, LAST_SIGMA, steps, dtype=torch.float64), shift))


def distilled_sigmas(steps: int = 16, shift: float = SHIFT) -> Tensor:
    """float64 [steps + 1]: `steps` of the 50 points 1, 0.98 … 0.02, evenly from the top, shifted, then 0.

    A distilled network samples without guidance.
    """
    if not 1 <= steps <= DISTILLED_POINTS:
        raise ModelError(f"{steps} steps: a distilled network samples in 1 to {DISTILLED_POINTS}")
    points = torch.arange(DISTILLED_POINTS, 0, -1, dtype=torch.float64) / DISTILLED_POINTS
    picked = [math.floor(k * DISTILLED_POINTS / steps) for k in range(steps)]
    return _with_end(shifted(points[picked], shift))


def shifted(sigma: Tensor, shift: float) -> Tensor:
    """s σ / (1 + (s - 1) σ): more at high noise, as more tokens need; of steps here, of draws in training."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def cfg(cond: Tensor, uncond: Tensor, guidance: float) -> Tensor:
    """Classifier-free guidance: u + g (c - u)."""
    return uncond + guidance * (cond - uncond)


def cfg_zero(cond: Tensor, uncond: Tensor, guidance: float) -> Tensor:
    """CFG-zero* (arXiv 2503.18886): u st + g (c - u st), where st = <c,u> / |u|² fits u to c, for each sample."""
    c, u = cond.flatten(1).float(), uncond.flatten(1).float()
    fit = (c * u).sum(1) / u.square().sum(1).clamp_min(1e-8)
    return cfg(cond, uncond * fit.view(-1, *[1] * (cond.ndim - 1)), guidance)


def denoise(predict: Predict, noise: Tensor, levels: Tensor, *, on_step: Callable[[], None] | None = None) -> Tensor:
    """Euler's steps from noise [B, …] at levels[0] = 1 to levels[-1] = 0; on_step is called after each."""
    x = noise.float()
    for now, following in zip(levels[:-1].tolist(), levels[1:].tolist(), strict=True):
        t = torch.full((len(x),), now * TIMESTEPS, device=x.device)
        x = x + (now - following) * predict(x, t).float()
        if on_step is not None:
            on_step()
    return x


def _with_end(levels: Tensor) -> Tensor:
    return torch.cat([levels, levels.new_zeros(1)])
