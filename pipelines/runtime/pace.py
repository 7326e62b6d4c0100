"""How much short work one task takes: so much that Ray's own cost is small beside it, and not so much that others wait.

A task costs the driver a millisecond or so, whatever it does; a small file keeps a worker for less than a tenth of a
second.
"""

from dataclasses import dataclass

TASK_S = 8.0  # seconds that a task of several pieces of work may last, by those before it
MOST = 16  # pieces of work in one task: what is lost with a worker
FORGETS = 0.98  # of what was learned, by each task: footage of another kind follows
FALSE = 20.0
"""Times as quick as usual is what a task can teach at most: a header may have lied. As slow: all is learned anew."""


@dataclass
class Pace:
    """Seconds per weight of a stage's work, by the tasks that finished; newer ones count for more."""

    seconds: float = 0.0
    count: float = 0.0
    weight: float = 0.0

    def learn(self, seconds: float, count: int, weight: float) -> None:
        """Note a task that did so many pieces of work, of so much weight in all."""
        if not weight:
            return
        if self.seconds:
            weight = min(weight, FALSE * seconds * self.weight / self.seconds)
        if seconds * self.weight > FALSE * weight * self.seconds:
            self.seconds = self.count = self.weight = 0.0
        self.seconds = self.seconds * FORGETS + seconds
        self.count = self.count * FORGETS + count
        self.weight = self.weight * FORGETS + weight

    def has_room(self, count: int, weight: float) -> bool:
        """Return whether so many pieces of work, of so much weight in all, may share a task."""
        return bool(self.count) and count <= MOST and weight * self.seconds <= TASK_S * self.weight

    @property
    def usual_count(self) -> int:
        """How many usual pieces of work fill a task."""
        if not self.count or not self.seconds:
            return 1
        return max(1, min(MOST, int(TASK_S * self.count / self.seconds)))
