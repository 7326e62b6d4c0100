"""Noise schedules: the sigmas at which the published sampler steps, from 1 to 0."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from reelwright.model.errors import ModelError

LAST_SIGMA = 0.001  # before the shift; 0 comes after it
SHIFT = 12.0
DISTILLED_POINTS = 50  # the distilled network knows t = 20, 40 … 1000
TAIL_BEGIN, TAIL_SHARE = 0.5, 0.2  # of 50 steps, 10 more: t = 500, 450 … 50


@dataclass(frozen=True)
class Schedule:
    """At which noise levels the network is asked.

    shift: towards noise. distilled: sigmas of a distilled network, which wants 16 steps and guidance 1. bf16_t: round t
    to bf16 before its sinusoid, as the published bf16 network does. later_shift: of segments that continue one before,
    which have fewer noisy tokens; None: the first's. enhance_hf: `with_tail` where a video is continued and the network
    is not distilled.
    """

    steps: int = 50
    shift: float = SHIFT
    distilled: bool = False
    bf16_t: bool = False
    later_shift: float | None = None
    enhance_hf: bool = True

    def sigmas(self, *, continues: bool = False) -> Tensor:
        """Return the noise levels from 1 to 0, float64 [steps + 1], or more with a tail.

        Args:
            continues: the frames follow a video's.
        """
        if self.distilled:
            return distilled_sigmas(self.steps, self.shift)
        levels = sigmas(self.steps, self.shift)
        return with_tail(levels) if continues and self.enhance_hf else levels


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


def with_tail(levels: Tensor) -> Tensor:
    """Return noise levels with finer steps at the end, for fine detail: the published sampler's `enhance_hf`.

    Levels of at most 0.5 give way to even ones from there, a fifth as many as there are steps: of the published 50, 46
    stay, and 0.5, 0.45 … 0.05 follow. Levels that have as many below 0.5 already stay as they are.
    """
    steps = len(levels) - 1
    count = max(1, round(steps * TAIL_SHARE))
    kept = levels[levels > TAIL_BEGIN]
    if steps - len(kept) >= count:
        return levels
    return _with_end(torch.cat([kept, TAIL_BEGIN * torch.arange(count, 0, -1, dtype=levels.dtype) / count]))


def shifted(sigma: Tensor, shift: float) -> Tensor:
    """Shift sigmas towards noise, as more tokens need: s σ / (1 + (s - 1) σ). Training shifts its draws by it."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def _with_end(sigmas: Tensor) -> Tensor:
    return torch.cat([sigmas, sigmas.new_zeros(1)])
