"""Pools of processes that score videos, one pool per reward: a Ray actor keeps them all, and ranks reach it by name.

A process that dies takes its call's videos with it. Each of them is scored once more, alone, since one may be to blame.
A process that does not answer in time is ended, and its videos are failures. Either way the next call finds a new
process in its place.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reelwright.errors import first_line
from reelwright.training.rewards.calling import score
from reelwright.training.rewards.contract import Reward, Score, Unscored, Video

START_LIMIT_S = 1800.0
"""For a process to find its place in the cluster and to load its models."""


@dataclass(frozen=True)
class PoolSettings:
    """Settings of a pool.

    processes: that share its videos. time_limit_s: of a call. keys: environment variables of the processes. cpu_share:
    of the CPUs that the reward asks for, where all rewards together ask for more than there are.
    """

    reward: Reward
    processes: int
    time_limit_s: float
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    cpu_share: float = 1.0


class RewardProcess:
    """A Ray actor that scores videos by one reward."""

    def __init__(self, reward: Reward, keys: Mapping[str, str]) -> None:
        os.environ.update(keys)
        if not reward.resources.gpus:  # Ray leaves all GPUs in sight of an actor that asked for none
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        self.reward = reward

    def prepare(self) -> str:
        """Load the models; return why that failed, empty where it did not."""
        try:
            self.reward.prepare()
        except Exception as error:  # anything that somebody's model raises
            return first_line(error) or type(error).__name__
        return ""

    def score(self, *videos: Video) -> list[Score]:
        """Score videos; the reward's exceptions are failures of all of them."""
        return score(self.reward, videos)


class RewardPools:
    """A Ray actor that hands videos to the processes of each reward."""

    def __init__(self, settings: Mapping[str, PoolSettings]) -> None:
        self.pools = {label: Pool(one) for label, one in settings.items()}

    async def start(self) -> dict[str, str]:
        """Start all processes; return by label why a pool cannot start."""
        whys = await asyncio.gather(*(pool.start() for pool in self.pools.values()))
        return {label: why for label, why in zip(self.pools, whys, strict=True) if why}

    async def score(self, label: str, videos: Sequence[Any]) -> list[Score]:
        """Score videos by one reward. videos: references to each."""
        return await self.pools[label].score(list(videos))

    async def figures(self) -> dict[str, float]:
        """Return what was counted since the last call, as `Scorer.figures` names it."""
        out = {"busy_s": 0.0, "idle_s": 0.0, "restarts": 0.0}
        for label, pool in self.pools.items():
            busy_s, idle_s, restarts = pool.read()
            out |= {f"{label}/busy_s": busy_s, f"{label}/idle_s": idle_s, f"{label}/restarts": float(restarts)}
            out["busy_s"] += busy_s
            out["idle_s"] += idle_s
            out["restarts"] += restarts
        return out


class Lost(Exception):
    """A process died in mid-call."""


class Place:
    """The place of a process in its pool: empty until the first call, and after the process was lost."""

    def __init__(self, settings: PoolSettings) -> None:
        self.settings, self.actor = settings, None
        self.starting = asyncio.Lock()
        self.busy_s, self._calls, self._since = 0.0, 0, 0.0

    async def filled(self) -> Any:
        """Return the process's handle; start one where there is none.

        Raises:
            RuntimeError: it cannot start; the sentence says why.
        """
        async with self.starting:
            if self.actor is None:
                actor = self._make()
                why = await _answer(actor.prepare.remote(), START_LIMIT_S, lost=str)
                if why is None:
                    why = f"no process of it was ready in {START_LIMIT_S:g} s; has the cluster room for it?"
                if why:
                    _end(actor)
                    raise RuntimeError(why)
                self.actor = actor
            return self.actor

    def empty(self, actor: Any) -> bool:
        """End a process; return whether it was in its place until now."""
        was_here = self.actor is actor
        if was_here:
            self.actor = None
        _end(actor)
        return was_here

    def begin(self) -> None:
        """Count from now on as busy."""
        if not self._calls:
            self._since = time.monotonic()
        self._calls += 1

    def finish(self) -> None:
        """Count as idle from now on, unless another call is under way."""
        self._calls -= 1
        if not self._calls:
            self.busy_s += time.monotonic() - self._since

    def read(self) -> float:
        """Return the busy seconds since the last call."""
        if self._calls:
            now = time.monotonic()
            self.busy_s, self._since = self.busy_s + now - self._since, now
        busy_s, self.busy_s = self.busy_s, 0.0
        return busy_s

    def _make(self) -> Any:
        import ray

        reward, wants = self.settings.reward, self.settings.reward.resources
        options: dict[str, Any] = {
            "num_cpus": wants.cpus * self.settings.cpu_share, "num_gpus": wants.gpus, "max_restarts": 0,
            "max_concurrency": max(1, wants.calls), "scheduling_strategy": "DEFAULT",
        }  # fmt: skip
        return ray.remote(RewardProcess).options(**options).remote(reward, dict(self.settings.keys))


class Pool:
    """The processes of one reward, and the calls that wait for them, first come, first served."""

    def __init__(self, settings: PoolSettings) -> None:
        self.settings, self.name = settings, settings.reward.name
        self.places = [Place(settings) for _ in range(settings.processes)]
        self.free: asyncio.Queue[Place] = asyncio.Queue()
        for _ in range(max(1, settings.reward.resources.calls)):
            for place in self.places:
                self.free.put_nowait(place)
        self.restarts = 0
        self._since = time.monotonic()

    async def start(self) -> str:
        """Start all processes; return why that failed, empty where it did not."""
        done = await asyncio.gather(*(place.filled() for place in self.places), return_exceptions=True)
        return next((first_line(one) for one in done if isinstance(one, BaseException)), "")

    async def score(self, videos: Sequence[Any]) -> list[Score]:
        """Score videos, as many per call as the reward takes."""
        size = max(1, self.settings.reward.resources.batch)
        parts = [videos[first : first + size] for first in range(0, len(videos), size)]
        return [found for part in await asyncio.gather(*map(self._scored, parts)) for found in part]

    def read(self) -> tuple[float, float, int]:
        """Return busy and idle seconds of all processes, and how many were replaced, since the last call."""
        now = time.monotonic()
        wall_s, self._since = (now - self._since) * len(self.places), now
        busy_s = sum(place.read() for place in self.places)
        restarts, self.restarts = self.restarts, 0
        return busy_s, max(0.0, wall_s - busy_s), restarts

    async def _scored(self, videos: Sequence[Any], *, again: bool = True) -> list[Score]:
        place = await self.free.get()
        try:
            return await self._call(place, videos)
        except Lost as lost:
            why = str(lost)
        finally:
            self.free.put_nowait(place)
        if not again:
            return [Unscored(f"{self.name}: its process died twice: {why}")] * len(videos)
        alone = await asyncio.gather(*(self._scored([video], again=False) for video in videos))
        return [found for one in alone for found in one]

    async def _call(self, place: Place, videos: Sequence[Any]) -> list[Score]:
        """Score videos in a place. Raises Lost."""
        try:
            actor = await place.filled()
        except RuntimeError as error:
            return [Unscored(f"{self.name}: its process was lost and cannot start again: {error}")] * len(videos)
        place.begin()
        try:
            found = await _answer(actor.score.remote(*videos), self.settings.time_limit_s, lost=_raise_lost)
        except Lost:
            self.restarts += place.empty(actor)
            raise
        except Exception as error:  # Ray's, where a video is gone; or a reward's answer that does not travel
            return [Unscored(f"{self.name}: {type(error).__name__}: {first_line(error)}")] * len(videos)
        finally:
            place.finish()
        if found is None:
            self.restarts += place.empty(actor)
            why = f"{self.name} did not answer in {self.settings.time_limit_s:g} s"
            return [Unscored(why)] * len(videos)
        return found


async def _answer(call: Any, limit_s: float, *, lost: Any) -> Any:
    """Return the answer to a call; None where it takes longer; what `lost` makes of a death where its process died."""
    import ray

    future = asyncio.wrap_future(call.future())
    done, _ = await asyncio.wait([future], timeout=limit_s)
    if not done:
        future.add_done_callback(lambda late: late.cancelled() or late.exception())  # nobody asks for it any more
        return None
    try:
        return future.result()
    except (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError) as error:
        return lost(first_line(error))


def _raise_lost(why: str) -> None:
    raise Lost(why)


def _end(actor: Any) -> None:
    import ray

    ray.kill(actor)
