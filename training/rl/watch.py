"""Watches a run on rollouts: its meters of hacking against the start, and the rule that ends it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from reelwright.training.distributed.world import World
from reelwright.training.errors import StoppedByRule
from reelwright.training.rl.config import RolloutConfig
from reelwright.training.rl.hacking import AgainstStart
from reelwright.training.rl.stop_rule import StopRule


class Watch:
    """What is remembered of a run's rollouts. Its tensors are in checkpoints, so a resumed run goes on the same."""

    def __init__(self, config: RolloutConfig) -> None:
        weights = {label: use.weight for label, use in config.rewards.items()}
        self.meters = AgainstStart()
        self.rule = StopRule(config.stop, weights, list(config.held_out))

    def tensors(self) -> dict[str, Tensor]:
        """Return the state, to be saved and filled in place."""
        return {"meters.start": self.meters.start, **self.rule.tensors()}

    def measure(self, step: int, sums: Tensor, world: World) -> dict[str, float]:
        """Return the meters of a step; see `AgainstStart.figures`."""
        return self.meters.figures(step, sums, world)

    def check(self, step: int, figures: Mapping[str, float], world: World) -> None:
        """End the run on every rank where the first rank's rule says so. Every rank calls it. Raises StoppedByRule."""
        why = ""
        try:
            self.rule.observe(step, figures)
        except StoppedByRule as stopped:
            why = str(stopped)
        if why := world.broadcast(why):
            raise StoppedByRule(why)
