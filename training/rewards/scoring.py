"""Whoever scores videos: rewards in this process here, actors of a cluster in pipelines."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from reelwright.training.rewards.contract import Score, Video


class Pending(Protocol):
    """Scores that are on their way."""

    def result(self) -> dict[str, list[Score]]:
        """Wait, then return a score per video by each asked reward's label; a failure of any kind is an `Unscored`."""


class Scorer(Protocol):
    """Scores videos by all rewards of a run, while the network makes the next ones."""

    def submit(self, videos: Sequence[Video], labels: Collection[str] | None = None) -> Pending:
        """Begin to score videos, which are complete and change no more; returns at once.

        labels: of the rewards that are asked, and that the result has; None: all. Labels of others are passed over.
        """

    def describe(self) -> dict[str, dict[str, object]]:
        """Return by label what `Reward.describe` tells in a process that has loaded it, for lineage.

        There a service has been asked what it serves, and a hub's model has been downloaded.
        """

    def figures(self) -> dict[str, float]:
        """Return what was counted since the last call.

        Returns:
            `LABEL/busy_s`: seconds in which the reward computed, of all its processes or threads together, those of
            calls that a process was lost in included. `LABEL/idle_s`: seconds in which scores of it were outstanding
            (a video was handed in and had no answer) and a process stood idle all the same: on the way to it, for want
            of a place, or while it started again. Time without a video to score is in neither. `LABEL/restarts`: of
            processes that were lost, or late as threads may be, where there are any. `busy_s`, `idle_s`, `restarts`: of
            all together; rewards that share a process have the same three figures, and count once. `LABEL/failed`:
            scores that are `Unscored`.
        """

    def close(self) -> None:
        """Let everything go."""


class Clock:
    """Counts the seconds in which at least one of several calls is under way, in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls, self._since, self._seconds = 0, 0.0, 0.0

    def begin(self) -> None:
        """Begin a call."""
        with self._lock:
            if not self._calls:
                self._since = time.monotonic()
            self._calls += 1

    def finish(self) -> None:
        """End a call."""
        with self._lock:
            self._calls -= 1
            if not self._calls:
                self._seconds += time.monotonic() - self._since

    def read(self) -> float:
        """Return the seconds since the last `read`, those of calls that are under way included."""
        with self._lock:
            if self._calls:
                now = time.monotonic()
                self._seconds, self._since = self._seconds + now - self._since, now
            seconds, self._seconds = self._seconds, 0.0
        return seconds


@dataclass(frozen=True)
class Done:
    """Scores that are there. scores: by label."""

    scores: dict[str, list[Score]]

    def result(self) -> dict[str, list[Score]]:
        """Return the scores."""
        return self.scores
