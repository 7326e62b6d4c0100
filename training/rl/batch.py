"""A micro-batch of rollouts: what the groups of some prompts share, and what each sample of them drew and earned."""

from dataclasses import dataclass, field, fields

from torch import Tensor

from reelwright.training.batch import Batch


@dataclass
class RolloutBatch(Batch):
    """B groups of G samples. `latents` are x at the critical step, which a group shares; `text` is one prompt each.

    Every number is fp32, or fp64 where said, and is what the rollout stored: nothing is computed again from other
    values.

    critical: int64 [B], the critical step of each group. t, following: float64 [B], its noise level and the next one.
    after: [B, G, C, T, H, W] of the noisy frames, x at `following`. advantages: [B, G], summed over the rewards, 0
    where a sample counts for none. figures: of the step's rollouts, over all ranks, for the log.
    """

    critical: Tensor = field(kw_only=True)
    t: Tensor = field(kw_only=True)
    following: Tensor = field(kw_only=True)
    after: Tensor = field(kw_only=True)
    advantages: Tensor = field(kw_only=True)
    figures: dict[str, float] = field(kw_only=True, default_factory=dict)

    @classmethod
    def of(cls, batch: Batch, **more: object) -> "RolloutBatch":
        """Make a batch of rollouts from the batch of their prompts."""
        own = {f.name: getattr(batch, f.name) for f in fields(batch)}
        return cls(**(own | more))
