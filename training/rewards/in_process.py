"""Rewards in the process that trains: one thread per reward, which scores while the network makes the next videos."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from reelwright.errors import first_line
from reelwright.training.errors import TrainError
from reelwright.training.rewards.calling import score
from reelwright.training.rewards.contract import Reward, Score, Unscored, Video


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
        self._busy_s = dict.fromkeys(self.rewards, 0.0)
        self._failed = dict.fromkeys(self.rewards, 0)
        self._since = time.monotonic()

    def submit(self, videos: Sequence[Video]) -> _Submitted:
        """Begin to score videos; returns at once."""
        videos = list(videos)
        return _Submitted({label: self._threads[label].submit(self._score, label, videos) for label in self.rewards})

    def describe(self) -> dict[str, dict[str, object]]:
        """Return by label what each reward is, for lineage."""
        return {label: reward.describe() for label, reward in self.rewards.items()}

    def figures(self) -> dict[str, float]:
        """Return the figures since the last call, as `Scorer.figures` names them."""
        with self._lock:
            now = time.monotonic()
            wall_s, self._since = now - self._since, now
            busy_s, self._busy_s = self._busy_s, dict.fromkeys(self.rewards, 0.0)
            failed, self._failed = self._failed, dict.fromkeys(self.rewards, 0)
        busy_total_s = sum(busy_s.values())
        found = {"busy_s": busy_total_s, "idle_s": max(0.0, wall_s * len(self.rewards) - busy_total_s), "restarts": 0.0}
        for label, seconds in busy_s.items():
            found |= {f"{label}/busy_s": seconds, f"{label}/idle_s": max(0.0, wall_s - seconds)}
        return found | {f"{label}/failed": float(count) for label, count in failed.items()}

    def close(self) -> None:
        """Wait for the calls under way, and drop those that have not begun."""
        for thread in self._threads.values():
            thread.shutdown(wait=True, cancel_futures=True)

    def _score(self, label: str, videos: Sequence[Video]) -> list[Score]:
        began = time.monotonic()
        found = score(self.rewards[label], videos)
        with self._lock:
            self._busy_s[label] += time.monotonic() - began
            self._failed[label] += sum(isinstance(one, Unscored) for one in found)
        return found
