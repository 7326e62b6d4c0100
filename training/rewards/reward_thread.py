"""A reward in a thread of its own, whose calls may take only so long."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import replace
from queue import SimpleQueue
from typing import Any

from reelwright.errors import first_line
from reelwright.training.rewards.calling import score
from reelwright.training.rewards.contract import Reward, Score, Unscored, Video, marks_of

START_LIMIT_S = 1800.0
"""For a reward that is started again to load its models."""

Job = tuple[Callable[[], Any], Future[Any]]


class RewardThread:
    """Calls a reward in a thread that is given up where a call takes too long.

    A thread cannot be ended, so the late one is left alone, with the reward that it has: a new thread goes on with a
    new object of the same reward, which loads its models again. The late thread ends when its call does, and does not
    keep the process from ending. Not for two threads at once.
    """

    def __init__(self, reward: Reward, limit_s: float) -> None:
        """Take a reward that is prepared. limit_s: of a call."""
        self.reward, self.limit_s = reward, limit_s
        self.restarts = 0
        self._is_ready = True
        self._jobs = _started(reward.name)

    def score(self, videos: Sequence[Video]) -> list[Score]:
        """Score videos, at most `resources.batch` per call. Those of a call that is late have failed."""
        size = max(1, self.reward.resources.batch)
        return [one for start in range(0, len(videos), size) for one in self._call(videos[start : start + size])]

    def close(self) -> None:
        """Let the thread end."""
        self._jobs.put(None)

    def _call(self, videos: Sequence[Video]) -> list[Score]:
        if not self._is_ready and (why := self._started_again()):
            return [Unscored(f"{self.reward.name} was late and cannot start again: {why}")] * len(videos)
        reward = self.reward
        try:
            return self._answer(lambda: score(reward, videos), self.limit_s)
        except _LateError:
            self._give_up()
            return [Unscored(f"{reward.name} did not answer in {self.limit_s:g} s")] * len(videos)

    def _started_again(self) -> str:
        """Take a new object of the reward and load its models; return why that failed, empty where it did not."""
        try:
            fresh = replace(self.reward)
            self._answer(fresh.prepare, START_LIMIT_S)
            was, now = marks_of(self.reward.describe()), marks_of(fresh.describe())
        except _LateError:
            self._give_up()
            return f"it was not ready in {START_LIMIT_S:g} s"
        except Exception as error:  # anything that somebody's model raises
            return first_line(error) or type(error).__name__
        if was != now:  # a service may serve another one by now
            return f"it was {' '.join(was).strip()}, now it is {' '.join(now).strip()}"
        self.reward, self._is_ready = fresh, True
        return ""

    def _answer(self, work: Callable[[], Any], limit_s: float) -> Any:
        answer: Future[Any] = Future()
        self._jobs.put((work, answer))
        if not wait([answer], limit_s).done:
            raise _LateError
        return answer.result()

    def _give_up(self) -> None:
        self._jobs.put(None)
        self._jobs, self._is_ready = _started(self.reward.name), False
        self.restarts += 1


class _LateError(Exception):
    """There is no answer in time."""


def _started(name: str) -> SimpleQueue[Job | None]:
    jobs: SimpleQueue[Job | None] = SimpleQueue()
    threading.Thread(target=_work, args=(jobs,), name=f"reward-{name}", daemon=True).start()
    return jobs


def _work(jobs: SimpleQueue[Job | None]) -> None:
    while job := jobs.get():
        work, answer = job
        try:
            answer.set_result(work())
        except BaseException as error:  # whoever asked shall have it
            answer.set_exception(error)
