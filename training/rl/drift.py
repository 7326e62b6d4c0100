"""How far a policy has drifted from the data: its flow-matching loss on held-out clips."""

from torch import Tensor

from reelwright.training.batch import Batch
from reelwright.training.objectives.base import Loss
from reelwright.training.objectives.distilling.roles import Roles
from reelwright.training.objectives.flow import FlowConfig, add_noise, velocity_loss
from reelwright.training.rl.config import RolloutConfig


class Drift:
    """The loss of validation, without guidance; clean frames are noised as in base training."""

    def __init__(self, config: RolloutConfig, roles: Roles, patch: tuple[int, int, int]) -> None:
        self.config, self.roles, self.patch = config, roles, patch

    def __call__(self, batch: Batch, t: Tensor) -> Loss:
        """Return the loss of clips at levels t [B]."""
        flow = FlowConfig(
            condition_noise=self.config.condition_noise,
            shift_at_reference=self.config.shift_at_reference,
            reference_tokens=self.config.reference_tokens,
        )
        return velocity_loss(self.roles, batch, add_noise(batch, flow, t=t, patch=self.patch), self.patch)
