"""What each stage of a run took, measured where the work is done and added up by the driver."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from reelwright.curation import usage
from reelwright.curation.usage import Lap, Usage


@dataclass(frozen=True)
class Metered:
    """A task's result, with the time that it took on its worker, and what its stages took there."""

    value: Any
    seconds: float
    laps: dict[str, Lap]


@dataclass
class Stage:
    """What the finished work of a stage took.

    Args:
        tasks: pieces of work: a task may do several.
        seconds: on workers.
        wait_s: between a task's start by the driver and its end, without its own seconds: waiting for a worker and for
            what it reads of other tasks.
        used: CPU, memory and requests.
    """

    tasks: int = 0
    seconds: float = 0.0
    wait_s: float = 0.0
    used: Usage = field(default_factory=Usage)

    def add(self, lap: Lap, wait_s: float) -> None:
        """Count work that waited for so many seconds."""
        self.tasks += lap.count
        self.seconds += lap.seconds
        self.wait_s += wait_s
        self.used.add(lap.used)

    def to_json(self) -> dict[str, Any]:
        """Return the figures by name, rounded."""
        figures = {"tasks": self.tasks, "seconds": self.seconds, "wait_s": self.wait_s} | asdict(self.used)
        return {name: round(value, 3) for name, value in figures.items()}


def metered(
    stage: str, function: Callable[..., Any], returns: int, prepare: Callable[[], None] | None = None
) -> Callable[..., Any]:
    """Return a task that hands back `Metered` for its value.

    Args:
        stage: is charged with all work that `function` did not charge to a stage itself, by `usage.lap`.
        function: does the task's work.
        returns: 2 where a payload comes beside the value.
        prepare: called first, on the worker.
    """

    @functools.wraps(function)
    def measured(*arguments: Any) -> Any:
        clock = time.monotonic()
        if prepare is not None:
            prepare()
        usage.begin()
        result = function(*arguments)
        value, payload = result if returns == 2 else (result, None)
        if not usage.laps():
            usage.lap(stage)
        found = Metered(value, time.monotonic() - clock, usage.laps())
        return (found, payload) if returns == 2 else found

    return measured
