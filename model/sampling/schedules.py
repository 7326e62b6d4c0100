"""Noise schedules: the sigmas at which the published sampler steps, from 1 to 0."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from reelwright.model.errors import ModelError

LAST_SIGMA = 0.001  # before the shift; 0 comes after it
SHIFT = 12.0
DISTILLED_POINTS = 50  # the distilled network knows t = 20, 40 … 1000


@dataclass(frozen=True)
class Schedule:
    """At which noise levels the network is asked.

    shift: towards noise. distilled: sigmas of a distilled network, which wants 16 steps and guidance 1. bf16_t: round t
    to bf16 before its sinusoid, as the published bf16 network does. later_shift: of segments that continue one before,
    which have fewer noisy tokens; None: the first's.
    """

    steps: int = 50
    shift: float = SHIFT
    distilled: bool = False
    bf16_t: bool = False
    later_shift: float | None = None

    def sigmas(self) -> Tensor:
        """Return the noise levels from 1 to 0, float64 [steps + 1]."""
        return (distilled_sigmas if self.distilled else sigmas)(self.steps, self.shift)


def sigmas(steps: int, shift: float = SHIFT) -> Tensor:
    """Return float64 [steps + 1]: linspace(1, 0.001, steps), shifted, then 0."""
    if steps < 1:
        raise ModelError(f"{steps} sampling steps: at least one is needed")
    return _with_end(shifted(torch.linspace(1, LAST_SIGMA, steps, dtype=torch.float64), shift))


def distilled_sigmas(steps: int = 16, shift: float = SHIFT) -> Tensor:
    """Return float64 [steps + 1]: `steps` of the 50 points 1, 0.98 … 0.02, evenly from the top, shifted, then 0.

    A distilled network samples without guidance.
    """
    points = torch.arange(DISTILLED_POINTS, 0, -1, dtype=torch.float64) / DISTILLED_POINTS
    return _with_end(shifted(points[distilled_points(steps)], shift))


def distilled_points(steps: int) -> list[int]:
    """Return which of the 50 points, counted from the top, a distilled network's steps begin at."""
    if not 1 <= steps <= DISTILLED_POINTS:
        raise ModelError(f"{steps} steps: a distilled network samples in 1 to {DISTILLED_POINTS}")
    return [math.floor(k * DISTILLED_POINTS / steps) for k in range(steps)]


def shifted(sigma: Tensor, shift: float) -> Tensor:
    """Shift sigmas towards noise, as more tokens need: s σ / (1 + (s - 1) σ). Training shifts its draws by it."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def _with_end(sigmas: Tensor) -> Tensor:
    return torch.cat([sigmas, sigmas.new_zeros(1)])
