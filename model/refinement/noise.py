"""Noise levels of refinement: from a threshold down, the levels of the full schedule below it.

With threshold 0.5 and the published 50 steps the network is asked at t = 500, 443.02, 343.47, 207.77 and 11.87.
"""

import torch
from torch import Tensor

from reelwright.model.errors import ModelError
from reelwright.model.sampling.schedules import Schedule

THRESHOLD = 0.5
FULL = Schedule()
"""The published 50 steps."""


def refinement_sigmas(threshold: float = THRESHOLD, schedule: Schedule = FULL) -> Tensor:
    """Return float64 [steps + 1]: the threshold, the schedule's levels below it, 0.

    Args:
        threshold: level at which refinement begins; at 1 the whole schedule is left.
        schedule: the full one.

    Raises:
        ModelError: the threshold is not in (0, 1].
    """
    if not 0 < threshold <= 1:
        raise ModelError(f"a refinement's threshold is {threshold}; it must be above 0 and at most 1")
    levels = schedule.sigmas()
    return torch.cat([levels.new_tensor([threshold]), levels[levels < threshold]])


def noised_start(upsampled: Tensor, noise: Tensor, threshold: float = THRESHOLD) -> Tensor:
    """Return x at the threshold (report, eq 11): (1 - T) x_up + T ε.

    Args:
        upsampled: latents of the enlarged video.
        noise: of the same shape.
        threshold: T.
    """
    return (1 - threshold) * upsampled + threshold * noise
