"""Rewards in the process that trains: threads per reward, which score while the network makes the next videos."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from reelwright.errors import first_line
from reelwright.training.errors import TrainError
from reelwright.training.rewards.contract import Reward, Score, Unscored, Video
from reelwright.training.rewards.reward_thread import RewardThread
from reelwright.training.rewards.scoring import Clock

LIMIT_S = 300.0
"""Of a call."""


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
    by side. A call that takes longer than its limit has failed, and the reward starts again in a new thread.
    """

    def __init__(self, rewards: Mapping[str, Reward], limits_s: Mapping[str, float] | None = None) -> None:
        """Load the models of all rewards.

        Args:
            rewards: by label.
            limits_s: of a call, by label; a label that is not there has LIMIT_S. A reward that waits for a server by
                limits of its own has at least those (`Reward.longest_call_s`).

        Raises:
            TrainError: a reward cannot be prepared.
        """
        self.rewards = dict(rewards)
        for label, reward in self.rewards.items():
            try:
                reward.prepare()
            except Exception as error:
                raise TrainError(f"reward {label!r} ({reward.name}) cannot start: {first_line(error)}") from error
        limits_s = dict.fromkeys(rewards, LIMIT_S) | dict(limits_s or {})
        self._calls = {
            label: RewardThread(reward, max(limits_s[label], reward.longest_call_s))
            for label, reward in self.rewards.items()
        }
        self._waits = {label: ThreadPoolExecutor(1, thread_name_prefix=f"waits-{label}") for label in rewards}
        self._lock = threading.Lock()
        self._busy = {label: Clock() for label in self.rewards}
        self._outstanding = {label: Clock() for label in self.rewards}
        self._failed, self._restarts = (dict.fromkeys(self.rewards, 0) for _ in range(2))

    def submit(self, videos: Sequence[Video], labels: Collection[str] | None = None) -> _Submitted:
        """Begin to score videos by the rewards of these labels, or by all; returns at once."""
        videos = list(videos)
        asked = [label for label in self.rewards if labels is None or label in labels]
        for label in asked:
            self._outstanding[label].begin()
        return _Submitted({label: self._waits[label].submit(self._score, label, videos) for label in asked})

    def describe(self) -> dict[str, dict[str, object]]:
        """Return by label what each reward is, for lineage."""
        return {label: reward.describe() for label, reward in self.rewards.items()}

    def figures(self) -> dict[str, float]:
        """Return the figures since the last call, as `Scorer.figures` names them."""
        with self._lock:
            failed, self._failed = self._failed, dict.fromkeys(self.rewards, 0)
            restarts, self._restarts = self._restarts, dict.fromkeys(self.rewards, 0)
        found = {"busy_s": 0.0, "idle_s": 0.0, "restarts": 0.0}
        for label in self.rewards:
            busy_s = self._busy[label].read()
            idle_s = max(0.0, self._outstanding[label].read() - busy_s)
            found |= {f"{label}/busy_s": busy_s, f"{label}/idle_s": idle_s, f"{label}/failed": float(failed[label])}
            found[f"{label}/restarts"] = float(restarts[label])
            found["busy_s"] += busy_s
            found["idle_s"] += idle_s
            found["restarts"] += restarts[label]
        return found

    def close(self) -> None:
        """Wait for the calls under way, and drop those that have not begun."""
        for waits in self._waits.values():
            waits.shutdown(wait=True, cancel_futures=True)
        for calls in self._calls.values():
            calls.close()

    def _score(self, label: str, videos: Sequence[Video]) -> list[Score]:
        calls = self._calls[label]
        before = calls.restarts
        self._busy[label].begin()
        try:
            found = calls.score(videos)
        finally:
            self._busy[label].finish()
            self._outstanding[label].finish()
        with self._lock:
            self._restarts[label] += calls.restarts - before
            self._failed[label] += sum(isinstance(one, Unscored) for one in found)
        return found
