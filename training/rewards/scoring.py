"""Whoever scores videos: rewards in this process here, actors of a cluster in pipelines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from reelwright.training.rewards.contract import Score, Video


class Pending(Protocol):
    """Scores that are on their way."""

    def result(self) -> dict[str, list[Score]]:
        """Wait, then return a score per video by each reward's label; a failure of any kind is an `Unscored`."""


class Scorer(Protocol):
    """Scores videos by all rewards of a run, while the network makes the next ones."""

    def submit(self, videos: Sequence[Video]) -> Pending:
        """Begin to score videos, which are complete and change no more; returns at once."""

    def describe(self) -> dict[str, dict[str, object]]:
        """Return by label: name, version, fingerprint, parameters and models of each reward, for lineage."""

    def figures(self) -> dict[str, float]:
        """Return what was counted since the last call.

        Returns:
            `busy_s` and `idle_s`: seconds of all processes or threads together. `restarts`: of lost processes. Per
            label: `LABEL/busy_s`, `LABEL/idle_s`, `LABEL/restarts` where there are processes, and `LABEL/failed`, the
            number of its scores that are `Unscored`.
        """

    def close(self) -> None:
        """Let everything go."""


@dataclass(frozen=True)
class Done:
    """Scores that are there. scores: by label."""

    scores: dict[str, list[Score]]

    def result(self) -> dict[str, list[Score]]:
        """Return the scores."""
        return self.scores
