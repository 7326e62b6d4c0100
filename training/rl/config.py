"""Settings that objectives on rollouts share: groups, critical step, rewards and their weights."""

from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from reelwright.model.config import Part
from reelwright.training.registry import ObjectiveConfig

if TYPE_CHECKING:
    from reelwright.training.rewards.contract import Reward


class RewardUse(Part):
    """A reward of a run."""

    kind: str = Field("", description="name of the reward; empty: the label that it stands under")
    weight: float = Field(1.0, description="of its advantage in the sum")
    parameters: dict[str, Any] = Field({}, description="of the reward")


class RolloutConfig(ObjectiveConfig):
    """Rollouts: groups of videos of one prompt and one initial noise, scored by rewards."""

    rewards: dict[str, RewardUse] = Field({}, description="label: the rewards that are optimised, at least one")
    held_out: dict[str, RewardUse] = Field(
        {}, description="label: rewards that are scored and logged, and never optimised"
    )
    group: int = Field(4, ge=2, description="videos of a group")
    steps: int = Field(16, ge=2, description="sampling steps of a rollout")
    guidance: float = Field(4.0, ge=1, description="CFG-zero* scale of rollouts and of the trained pass; 1: none")
    negative: str = Field("", description="negative prompt of the guidance")
    advantage_clip: float = Field(5.0, ge=0, description="largest size of an advantage; 0: any")
    max_failed: float = Field(
        0.5, ge=0, le=1, description="share of a reward's scores that may fail in a step before the run stops"
    )

    @model_validator(mode="after")
    def _check_rewards(self) -> "RolloutConfig":
        if not self.rewards:
            raise ValueError("rewards must name at least one reward, as in rewards: {sharpness_standin: {weight: 1}}")
        both = sorted(set(self.rewards) & set(self.held_out))
        if both:
            raise ValueError(f"{both[0]!r} is under rewards and held_out; a reward that is optimised is no evaluator")
        return self

    @model_validator(mode="after")
    def _check_kinds(self) -> "RolloutConfig":
        self.load_rewards()
        return self

    def load_rewards(self) -> "dict[str, Reward]":
        """Return the rewards of the run by label, optimised ones first, then held-out ones; no model is loaded.

        Raises:
            ValueError: a kind is unknown, or has no such parameter.
        """
        from reelwright.training.rewards.registry import load

        found = {}
        for section, uses in (("rewards", self.rewards), ("held_out", self.held_out)):
            for label, use in uses.items():
                try:
                    found[label] = load(use.kind or label, use.parameters)
                except ValueError as error:
                    raise ValueError(f"{section}.{label}: {error}") from None
        return found
