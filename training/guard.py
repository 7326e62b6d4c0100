"""A bad step changes no weight: it is skipped, counted, and past a limit it ends the run."""

import math
import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reelwright.training.errors import TrainError
from reelwright.training.recipe import GuardConfig

WINDOW = 100
"""Steps in the median of norms. A leap is judged once there are as many."""


@dataclass
class Guard:
    """Skips bad steps. Loss and norm are of all ranks, so that all decide alike. Its state goes into checkpoints."""

    config: GuardConfig
    skipped: int = 0
    skipped_in_a_row: int = 0
    norms: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    """Of the last steps, skipped ones too: gradients that stay large become the usual ones."""

    def allows(self, step: int, loss: float, norm: float) -> bool:
        """Whether the weights may take this step. Raises TrainError after more than `max_skipped` bad ones in a row."""
        why = self._fault(loss, norm)
        if math.isfinite(norm):
            self.norms.append(norm)
        if why is None:
            self.skipped_in_a_row = 0
            return True
        self.skipped += 1
        self.skipped_in_a_row += 1
        if self.skipped_in_a_row > self.config.max_skipped:
            raise TrainError(
                f"step {step}: {why}, and the {self.skipped_in_a_row - 1} steps before it were skipped like it; lower "
                "optim.lr, lengthen optim.warmup_steps, or raise guard.max_norm and guard.max_ratio, and start from an "
                "earlier checkpoint"
            )
        return False

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"skipped": self.skipped, "skipped_in_a_row": self.skipped_in_a_row, "norms": list(self.norms)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over a checkpoint's `state`; older ones have no norms."""
        self.skipped, self.skipped_in_a_row = state["skipped"], state["skipped_in_a_row"]
        self.norms = deque(state.get("norms", ()), maxlen=WINDOW)

    def _fault(self, loss: float, norm: float) -> str | None:
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        if not math.isfinite(norm):
            return f"the gradient's norm is {norm}"
        if norm > self.config.max_norm:
            return f"the gradient's norm is {norm:.4g}, above guard.max_norm {self.config.max_norm:g}"
        if not self.config.max_ratio or len(self.norms) < WINDOW:
            return None
        usual = statistics.median(self.norms)
        if norm > self.config.max_ratio * usual:
            return (
                f"the gradient's norm is {norm:.4g}, more than guard.max_ratio {self.config.max_ratio:g} times "
                f"{usual:.4g}, the median of the last {WINDOW} steps"
            )
        return None
