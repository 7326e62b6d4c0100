"""A bad step changes no weight: it is skipped, counted, and past a limit it ends the run."""

import math
from dataclasses import dataclass

from reelwright.training.errors import TrainError
from reelwright.training.recipe import GuardConfig


@dataclass
class Guard:
    """loss and norm are those of all ranks, so that all decide alike. Its counts go into checkpoints."""

    config: GuardConfig
    skipped: int = 0
    skipped_in_a_row: int = 0

    def allows(self, step: int, loss: float, norm: float) -> bool:
        """Whether the weights may take this step. Raises TrainError after more than `max_skipped` bad ones in a row."""
        why = self._fault(loss, norm)
        if why is None:
            self.skipped_in_a_row = 0
            return True
        self.skipped += 1
        self.skipped_in_a_row += 1
        if self.skipped_in_a_row > self.config.max_skipped:
            raise TrainError(
                f"step {step}: {why}, and the {self.skipped_in_a_row - 1} steps before it were skipped like it; lower "
                "optim.lr, lengthen optim.warmup_steps, or raise guard.max_norm, and start from an earlier checkpoint"
            )
        return False

    def _fault(self, loss: float, norm: float) -> str | None:
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        if not math.isfinite(norm):
            return f"the gradient's norm is {norm}"
        if norm > self.config.max_norm:
            return f"the gradient's norm is {norm:.4g}, above guard.max_norm {self.config.max_norm:g}"
        return None
