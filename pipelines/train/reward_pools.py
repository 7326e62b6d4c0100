"""Pools of processes that score videos: a Ray actor keeps them all, and ranks reach it by name.

There is one pool per reward; rewards with the same `shared_model` have one together, whose processes compute them all.
A process that dies takes its calls with it. Each video of a call that it may have been computing is scored once more,
alone, since one may be to blame; calls that waited in it are made again as they were. A process that does not answer in
time is ended, and the call's videos are failures; those of a call of several batches are first scored once more, alone.
Either way the next call finds a new process in its place, which must have the rewards of the first: a service may serve
another one by now.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reelwright.errors import first_line
from reelwright.pipelines.train.reward_turns import Line, Turn, Turns
from reelwright.training.rewards.calling import score
from reelwright.training.rewards.contract import Reward, Score, Unscored, Video, marks_of
from reelwright.training.rewards.scoring import Clock

START_LIMIT_S = 1800.0
"""For a process to find its place in the cluster and to load its models."""

CALL_S = 0.5
"""A call is made of several batches up to about this time, so that the milliseconds of its way count for little."""


@dataclass(frozen=True)
class PoolSettings:
    """Settings of a reward's processes.

    processes: that share its videos. time_limit_s: of a call. keys: environment variables of the processes. cpu_share:
    of the CPUs that the reward asks for, where all rewards together ask for more than there are.
    """

    reward: Reward
    processes: int
    time_limit_s: float
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    cpu_share: float = 1.0


@dataclass(frozen=True)
class Members:
    """The rewards of one pool, by label, at least one, and what a process of theirs is."""

    settings: Mapping[str, PoolSettings]

    @property
    def rewards(self) -> dict[str, Reward]:
        """Rewards by label."""
        return {label: one.reward for label, one in self.settings.items()}

    @property
    def processes(self) -> int:
        """As many as the one that asks for most."""
        return max(one.processes for one in self.settings.values())

    @property
    def time_limit_s(self) -> float:
        """The longest."""
        return max(one.time_limit_s for one in self.settings.values())

    @property
    def keys(self) -> dict[str, str]:
        """Environment variables of all of them."""
        return {name: key for one in self.settings.values() for name, key in one.keys.items()}

    @property
    def cpus(self) -> float:
        """Of a process, as the rewards ask for them."""
        return max(one.reward.resources.cpus for one in self.settings.values())

    @property
    def gpus(self) -> float:
        """Of a process."""
        return max(one.reward.resources.gpus for one in self.settings.values())

    @property
    def cpu_share(self) -> float:
        """Of those CPUs, that it gets."""
        return min(one.cpu_share for one in self.settings.values())

    @property
    def batch(self) -> int:
        """Videos per call: as few as any of them takes."""
        return max(1, min(one.reward.resources.batch for one in self.settings.values()))

    @property
    def calls(self) -> int:
        """Calls at once of a process: as few as any of them stands."""
        return max(1, min(one.reward.resources.calls for one in self.settings.values()))

    @property
    def told(self) -> str:
        """Labels and number of processes, for people."""
        return f"{' + '.join(self.settings)} × {self.processes}"


def together(rewards: Mapping[str, Reward]) -> list[list[str]]:
    """Return the labels of each pool's rewards, pools and labels in the order of the rewards."""
    pools: dict[str, list[str]] = {}
    for label, reward in rewards.items():
        key = f"model {reward.shared_model}" if reward.shared_model else f"label {label}"
        pools.setdefault(key, []).append(label)
    return list(pools.values())


def members_of(settings: Mapping[str, PoolSettings]) -> list[Members]:
    """Return the rewards of each pool."""
    found = together({label: one.reward for label, one in settings.items()})
    return [Members({label: settings[label] for label in labels}) for labels in found]


Scores = dict[str, list[Score]]
"""By label, a score per video."""

Told = dict[str, dict[str, Any]]
"""By label, what a reward is: `Reward.describe`."""


class RewardProcess:
    """A Ray actor that scores videos by the rewards of a pool."""

    def __init__(self, rewards: Mapping[str, Reward], keys: Mapping[str, str]) -> None:
        os.environ.update(keys)
        if not any(one.resources.gpus for one in rewards.values()):  # Ray leaves all GPUs in sight of such an actor
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        self.rewards, self.busy = dict(rewards), Clock()

    def prepare(self) -> tuple[str, Told]:
        """Load the models; return why that failed, empty where it did not, and what each reward is, by label."""
        try:
            for reward in self.rewards.values():
                reward.prepare()
            return "", {label: reward.describe() for label, reward in self.rewards.items()}
        except Exception as error:  # anything that somebody's model raises
            return first_line(error) or type(error).__name__, {}

    def score(self, *videos: Video) -> tuple[Scores, float]:
        """Score videos; return also the seconds of this process's computing that no answer has told yet.

        A reward's exception is its failure for all of them.
        """
        self.busy.begin()
        try:
            found = {label: score(reward, videos) for label, reward in self.rewards.items()}
        finally:
            self.busy.finish()
        return found, self.busy.read()


class RewardPools:
    """A Ray actor that hands videos to the processes of each reward."""

    def __init__(self, settings: Mapping[str, PoolSettings]) -> None:
        self.pools = [Pool(members) for members in members_of(settings)]

    async def start(self) -> dict[str, str]:
        """Start all processes; return by the first label of a pool why it cannot start."""
        whys = await asyncio.gather(*(pool.start() for pool in self.pools))
        return {pool.first: why for pool, why in zip(self.pools, whys, strict=True) if why}

    async def describe(self) -> Told:
        """Return what each reward is, as its first process told when it was ready."""
        return {label: told for pool in self.pools for label, told in pool.told.items()}

    async def score(self, first: str, videos: Sequence[Any]) -> Scores:
        """Score videos by the rewards of the pool whose first label this is. videos: references to each."""
        (pool,) = (one for one in self.pools if one.first == first)
        return await pool.score(list(videos))

    async def figures(self) -> dict[str, float]:
        """Return what was counted since the last call, as `Scorer.figures` names it."""
        out = {"busy_s": 0.0, "idle_s": 0.0, "restarts": 0.0}
        for pool in self.pools:
            busy_s, idle_s, restarts = pool.read()
            for label in pool.members.settings:
                out |= {f"{label}/busy_s": busy_s, f"{label}/idle_s": idle_s, f"{label}/restarts": float(restarts)}
            out["busy_s"] += busy_s
            out["idle_s"] += idle_s
            out["restarts"] += restarts
        return out


class Lost(Exception):
    """A process died with a call."""


class NotBegun(Exception):
    """A process was lost before it could begin a call."""


class Late(Exception):
    """A process did not answer in time."""


class Place:
    """The place of a process in its pool: empty until the first call, and after the process was lost."""

    def __init__(self, members: Members, told: Told) -> None:
        """Take the rewards, and what the pool's first process told that they are; empty until then."""
        self.members, self.actor, self.line, self.told = members, None, Line(members.calls), told
        self.starting = asyncio.Lock()

    async def filled(self) -> Any:
        """Return the process's handle; start one where there is none.

        Raises:
            RuntimeError: it cannot start; the sentence says why.
        """
        async with self.starting:
            if self.actor is None:
                actor = self._make()
                found = await _answer(actor.prepare.remote(), START_LIMIT_S, lost=lambda why: (why, {}))
                if found is None:
                    found = f"no process of it was ready in {START_LIMIT_S:g} s; has the cluster room for it?", {}
                if why := found[0] or self.other_than_before(found[1]):
                    _end(actor)
                    raise RuntimeError(why)
                self.actor, self.line = actor, Line(self.members.calls)
            return self.actor

    def other_than_before(self, told: Told) -> str:
        """Return why a process is not one of this pool: its rewards are not those of the others; empty: it is."""
        for label, one in told.items():
            was = self.told.setdefault(label, one)
            if marks_of(was) != marks_of(one):
                return f"{label} was {' '.join(marks_of(was)).strip()}, now it is {' '.join(marks_of(one)).strip()}"
        return ""

    def empty(self, actor: Any) -> bool:
        """End a process; return whether it was in its place until now."""
        was_here = self.actor is actor
        if was_here:
            self.actor = None
            self.line.end()
        _end(actor)
        return was_here

    def _make(self) -> Any:
        import ray

        wants = self.members
        options: dict[str, Any] = {
            "num_cpus": wants.cpus * wants.cpu_share, "num_gpus": wants.gpus, "max_restarts": 0,
            "max_concurrency": wants.calls, "scheduling_strategy": "DEFAULT",
        }  # fmt: skip
        return ray.remote(RewardProcess).options(**options).remote(wants.rewards, wants.keys)


class Pool:
    """The processes of some rewards, and the calls that wait for them."""

    def __init__(self, members: Members) -> None:
        self.members, self.first = members, next(iter(members.settings))
        self.told: Told = {}
        self.places = [Place(members, self.told) for _ in range(members.processes)]
        self.turns = Turns(members.processes, members.calls)
        self.outstanding, self.busy_s, self.restarts = Clock(), 0.0, 0
        self.pace_s = 0.0  # per video, of the last call that was answered; 0: none was

    async def start(self) -> str:
        """Start all processes; return why that failed, empty where it did not."""
        done = await asyncio.gather(*(place.filled() for place in self.places), return_exceptions=True)
        return next((first_line(one) for one in done if isinstance(one, BaseException)), "")

    async def score(self, videos: Sequence[Any]) -> Scores:
        """Score videos, `size_of` them per call."""
        size = self.size_of(len(videos))
        self.outstanding.begin()
        try:
            parts = await asyncio.gather(
                *(self._scored(videos[first : first + size]) for first in range(0, len(videos), size))
            )
        finally:
            self.outstanding.finish()
        return self._joined(parts)

    def size_of(self, videos: int) -> int:
        """Return how many of so many videos a call has: a batch, or several where they take less than CALL_S."""
        batch, share = self.members.batch, -(-videos // len(self.places))
        fast = int(CALL_S / self.pace_s) if self.pace_s and self.members.calls == 1 else 0
        return max(1, min(fast, share) // batch) * batch

    def read(self) -> tuple[float, float, int]:
        """Return busy and idle seconds of all processes, as `Scorer.figures` has them, and how many were replaced."""
        wall_s = self.outstanding.read() * len(self.places)
        busy_s, self.busy_s = self.busy_s, 0.0
        restarts, self.restarts = self.restarts, 0
        return busy_s, max(0.0, wall_s - busy_s), restarts

    def _joined(self, parts: Sequence[Scores]) -> Scores:
        return {label: [one for part in parts for one in part[label]] for label in self.members.settings}

    def _failed(self, videos: Sequence[Any], why: str) -> Scores:
        """Return a failure for each video by each reward. why: what comes after the reward's name."""
        rewards = self.members.rewards
        return {label: [Unscored(f"{one.name}{why}")] * len(videos) for label, one in rewards.items()}

    async def _scored(self, videos: Sequence[Any], *, again: bool = True) -> Scores:
        while True:
            number = await self.turns.take(alone=not again)
            try:
                return await self._call(self.places[number], videos)
            except NotBegun:
                continue
            except Lost as lost:
                why = f": its process died twice: {lost}"
            except Late as late:
                why = str(late)
                if len(videos) <= self.members.batch:
                    return self._failed(videos, why)
            finally:
                self.turns.give_back(number)
            if not again:
                return self._failed(videos, why)
            return self._joined(await asyncio.gather(*(self._scored([video], again=False) for video in videos)))

    async def _call(self, place: Place, videos: Sequence[Any]) -> Scores:
        """Score videos in a place. Raises Lost, NotBegun, Late."""
        try:
            actor = await place.filled()
        except RuntimeError as error:
            return self._failed(videos, f": its process was lost and cannot start again: {error}")
        line, limit_s = place.line, self.members.time_limit_s
        turn = line.enter()
        try:
            found = await _answer(actor.score.remote(*videos), limit_s, lost=_raise_lost, begun=turn.begun)
            if found is None:
                self._replace(place, actor, turn)
                raise Late(f" did not answer in {limit_s:g} s")
        except Late:
            raise
        except Lost as lost:
            self._replace(place, actor, turn)
            if not turn.is_begun:
                raise NotBegun from lost
            raise
        except Exception as error:  # Ray's, where a video is gone; or a reward's answer that does not travel
            return self._failed(videos, f": {type(error).__name__}: {first_line(error)}")
        finally:
            line.leave(turn)
        scores, busy_s = found
        self.busy_s, self.pace_s = self.busy_s + busy_s, busy_s / len(videos)
        return scores

    def _replace(self, place: Place, actor: Any, turn: Turn) -> None:
        """Empty a place whose process was lost with a call."""
        self.restarts += place.empty(actor)
        if turn.is_begun:
            self.busy_s += time.monotonic() - turn.began_s


async def _answer(call: Any, limit_s: float, *, lost: Any, begun: asyncio.Future[None] | None = None) -> Any:
    """Wait for the answer to a call.

    Args:
        call: Ray's reference.
        limit_s: that it may take.
        lost: makes an answer of a death where its process died, or raises.
        begun: done when the limit begins; None: at once.

    Returns:
        The answer; None where it takes longer.
    """
    import ray

    future = asyncio.wrap_future(call.future())
    if begun is not None:
        await asyncio.wait([future, begun], return_when=asyncio.FIRST_COMPLETED)
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
