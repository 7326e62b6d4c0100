"""What each stage of a run took, measured where the work is done and added up by the driver."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from reelwright.curation import usage
from reelwright.curation.store import Store
from reelwright.curation.store.traffic import since, totals
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


class Meter:
    """What this process takes from one look to the next, its requests to stores on object stores among it."""

    def __init__(self) -> None:
        self._asked = totals(is_remote=True)
        usage.begin()

    def note_store(self) -> None:
        """Count what was asked of stores since the last look."""
        asked = totals(is_remote=True)
        usage.note(_of_store(since(self._asked, asked)))
        self._asked = asked

    def take(self) -> Usage:
        """Return what was taken since the last look."""
        self.note_store()
        used = usage.end()
        usage.begin()
        return used


class StoreMeter:
    """What the process that commits asks of a store.

    Args:
        store: of the run.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._began = self._seen = store.traffic()

    def end(self) -> dict[str, float]:
        """Return requests and bytes since the beginning, and begin anew."""
        began, self._began = self._began, self._store.traffic()
        return since(began, self._began)

    def take(self) -> Lap:
        """Return what was asked since the last call, as metrics take it; nothing of a store on a disk."""
        now = self._store.traffic()
        asked, self._seen = since(self._seen, now), now
        return Lap(0, 0.0, _of_store(asked) if self._store.path is None else Usage())


def _of_store(asked: Mapping[str, float]) -> Usage:
    return Usage(
        requests=int(asked["requests"]),
        bytes_in=int(asked["bytes_read"]),
        write_requests=int(asked["write_requests"]),
        bytes_out=int(asked["bytes_written"]),
    )


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
        meter = Meter()
        result = function(*arguments)
        meter.note_store()
        value, payload = result if returns == 2 else (result, None)
        if not usage.laps():
            usage.lap(stage)
        found = Metered(value, time.monotonic() - clock, usage.laps())
        return (found, payload) if returns == 2 else found

    return measured
