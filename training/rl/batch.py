"""Micro-batches of rollouts: what the groups of some prompts share, and what each sample of them drew and earned.

Every number is fp32, or fp64 where said, and is what the rollout stored: nothing is computed again from other values.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Self

from torch import Tensor

from reelwright.training.batch import Batch


@dataclass
class RolloutBatch(Batch):
    """Samples of rollouts, and what they earned.

    advantages: summed over the rewards, 0 where a sample counts for none. figures: of the step's rollouts, over all
    ranks, for the log.
    """

    advantages: Tensor = field(kw_only=True)
    figures: dict[str, float] = field(kw_only=True, default_factory=dict)

    @classmethod
    def of(cls, batch: Batch, **more: Any) -> Self:
        """Make a batch of rollouts from the batch of their prompts, with some of its fields changed."""
        own = {f.name: getattr(batch, f.name) for f in fields(Batch)}
        return cls(**(own | more))


@dataclass
class StepBatch(RolloutBatch):
    """B groups of G samples that part at one stochastic step. `latents` are x there; `text` is one prompt each.

    t, following, second: float64 [B], the step's noise level, the next one, and the sampler's second level, of
    `report` weights. mean: like `latents`, μ as the rollout had it. after: [B, G, C, T, H, W], x at `following`.
    Clean frames are the same in all three. advantages: [B, G].
    """

    t: Tensor = field(kw_only=True)
    following: Tensor = field(kw_only=True)
    second: Tensor = field(kw_only=True)
    mean: Tensor = field(kw_only=True)
    after: Tensor = field(kw_only=True)


@dataclass
class MadeBatch(RolloutBatch):
    """B samples, of as many groups: `latents` are those of finished videos. advantages: [B]."""
