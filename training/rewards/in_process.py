"""Rewards in the process that trains: one thread per reward, which scores while the network makes the next videos."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from reelwright.errors import first_line
from reelwright.training.errors import TrainError
from reelwright.training.rewards.calling import score
from reelwright.training.rewards.contract import Reward, Score, Unscored, Video
from reelwright.training.rewards.scoring import Clock


@dataclass(frozen=True)
class _Submitted:
    """Scores under way. futures: by label."""

    futures: Mapping[str, Future[list[Score]]]

    def result(self) -> dict[str, list[Score]]:
        """Wait, then return the scores by label."""
        return {label: future.result() for label, future in self.futures.items()}


class InProcess:
    """A `scoring.Scorer` of rewards in this process.

    Each reward has one thread, so calls of one reward follow one another, and rewards that wait for servers do so side
    by side.
    """

    def __init__(self, rewards: Mapping[str, Reward]) -> None:
        """Load the models of all rewards.

        Args:
            rewards: by label.

        Raises:
            TrainError: a reward cannot be prepared.
        """
        self.rewards = dict(rewards)
        for label, reward in self.rewards.items():
            try:
                reward.prepare()
            except Exception as error:
                raise TrainError(f"reward {label!r} ({reward.name}) cannot start: {first_line(error)}") from error
        self._threads = {label: ThreadPoolExecutor(1, thread_name_prefix=f"reward-{label}") for label in rewards}
        self._lock = threading.Lock()
        self._busy = {label: Clock() for label in self.rewards}
        self._outstanding = {label: Clock() for label in self.rewards}
        self._failed = dict.fromkeys(self.rewards, 0)

    def submit(self, videos: Sequence[Video]) -> _Submitted:
        """Begin to score videos; returns at once."""
        videos = list(videos)
        for clock in self._outstanding.values():
            clock.begin()
        return _Submitted({label: self._threads[label].submit(self._score, label, videos) for label in self.rewards})

    def describe(self) -> dict[str, dict[str, object]]:
        """Return by label what each reward is, for lineage."""
        return {label: reward.describe() for label, reward in self.rewards.items()}

    def figures(self) -> dict[str, float]:
        """Return the figures since the last call, as `Scorer.figures` names them."""
        with self._lock:
            failed, self._failed = self._failed, dict.fromkeys(self.rewards, 0)
        found = {"busy_s": 0.0, "idle_s": 0.0, "restarts": 0.0}
        for label in self.rewards:
            busy_s = self._busy[label].read()
            idle_s = max(0.0, self._outstanding[label].read() - busy_s)
            found |= {f"{label}/busy_s": busy_s, f"{label}/idle_s": idle_s, f"{label}/failed": float(failed[label])}
            found["busy_s"] += busy_s
            found["idle_s"] += idle_s
        return found

    def close(self) -> None:
        """Wait for the calls under way, and drop those that have not begun."""
        for thread in self._threads.values():
            thread.shutdown(wait=True, cancel_futures=True)

    def _score(self, label: str, videos: Sequence[Video]) -> list[Score]:
        self._busy[label].begin()
        try:
            found = score(self.rewards[label], videos)
        finally:
            self._busy[label].finish()
            self._outstanding[label].finish()
        with self._lock:
            self._failed[label] += sum(isinstance(one, Unscored) for one in found)
        return found
