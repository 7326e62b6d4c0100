"""Rewards of a run as Ray actors: the first rank starts them, all ranks have their videos scored by the same ones."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reelwright.errors import ReelError, first_line
from reelwright.pipelines.runtime.cluster import AUTH_MODE, cluster
from reelwright.pipelines.train.reward_gpus import gpus_in_common_here, gpus_of_rewards
from reelwright.pipelines.train.reward_pools import START_LIMIT_S, PoolSettings, RewardPools, Scores, members_of
from reelwright.training.errors import StoppedByRule, TrainError
from reelwright.training.rewards.contract import Reward, Unscored, Video
from reelwright.training.rewards.in_process import InProcess
from reelwright.training.rl.config import RolloutConfig
from reelwright.training.rl.identity import refuse_unlike_ranks

if TYPE_CHECKING:
    from reelwright.training.distributed.world import World
    from reelwright.training.recipe import TrainRecipe
    from reelwright.training.rewards.scoring import Pending, Scorer

NAMESPACE = "reelwright-rewards"


@contextmanager
def scorer_of(recipe: TrainRecipe, world: World, say: Callable[[str], None] = print) -> Iterator[Scorer | None]:
    """Start the rewards of a recipe, and end them after the block. Every rank calls it.

    Light rewards are computed in each rank's own process, the others by actors that all ranks share: `RewardUse`.

    Args:
        recipe: of the run; None is given where its objective has no rewards.
        world: this rank and the others.
        say: prints a line, on the first rank.

    Raises:
        TrainError: a reward cannot start, there is no room for it, or it is another one on another rank.
    """
    objective = recipe.objective
    if not isinstance(objective, RolloutConfig):
        yield None
        return
    rewards, uses = objective.load_rewards(), objective.uses
    local = {label: reward for label, reward in rewards.items() if uses[label].is_local(reward)}
    settings = {
        label: PoolSettings(
            reward, uses[label].processes or reward.resources.processes or 1, uses[label].time_limit_s
        )
        for label, reward in rewards.items()
        if label not in local
    }  # fmt: skip
    with ExitStack() as stack:
        limits_s = {label: use.time_limit_s for label, use in uses.items()}
        parts: list[Scorer] = [InProcess(local, limits_s)] if local else []
        for part in parts:
            stack.callback(part.close)
            refuse_unlike_ranks(part.describe(), world)
        if settings:
            parts.append(stack.enter_context(actors(settings, world, say)))
        yield parts[0] if len(parts) == 1 else Joined(parts)


@contextmanager
def actors(
    settings: Mapping[str, PoolSettings], world: World, say: Callable[[str], None] = print
) -> Iterator[ActorScorer]:
    """Start the pools of rewards, or join those of the first rank. Every rank calls it.

    Args:
        settings: of the pools, by label.
        world: this rank and the others.
        say: prints a line, on the first rank.

    Raises:
        TrainError: Ray cannot be joined, or a reward cannot start; on every rank.
    """
    with ExitStack() as stack:
        name = _agreed(world, lambda: _start(settings, world, stack, say))
        scorer = _agreed_join(name, settings, world, stack)
        try:
            yield scorer
        except StoppedByRule:  # on every rank, which leave as they do at a run's end
            _leave(scorer, world, stack)
            raise
        _leave(scorer, world, stack)


def _leave(scorer: ActorScorer, world: World, stack: ExitStack) -> None:
    """Leave the cluster, the first rank last: it may end the cluster."""
    scorer.let_go()
    if not world.is_first:
        stack.close()
    world.barrier()


class ActorScorer:
    """A `scoring.Scorer` of the pools that one run keeps. tells: whether this rank tells their figures."""

    def __init__(self, pools: Any, settings: Mapping[str, PoolSettings], *, tells: bool) -> None:
        self.pools, self.settings, self.tells = pools, settings, tells
        self.failed = dict.fromkeys(settings, 0)

    def submit(self, videos: Sequence[Video], labels: Collection[str] | None = None) -> Pending:
        """Put videos into the object store and begin to score them; returns at once.

        A pool one of whose rewards is asked computes all of them, in its one pass.
        """
        import ray

        asked = [label for label in self.settings if labels is None or label in labels]
        pools = [tuple(members.settings) for members in members_of(self.settings)]
        pools = [pool for pool in pools if not set(pool).isdisjoint(asked)]
        stored = [ray.put(video) for video in videos] if pools else []
        return _Asked(self, {pool: self.pools.score.remote(pool[0], stored) for pool in pools}, stored, asked)

    def describe(self) -> dict[str, dict[str, object]]:
        """Return by label what each reward is, as its process tells, for lineage."""
        import ray

        try:
            told = ray.get(self.pools.describe.remote())
        except ray.exceptions.RayError:  # the keeper is being started again, and has asked nobody yet
            told = {}
        return {label: told.get(label) or one.reward.describe() for label, one in self.settings.items()}

    def figures(self) -> dict[str, float]:
        """Return the figures since the last call, as `Scorer.figures` names them; seconds on one rank alone."""
        import ray

        failed = {f"{label}/failed": float(count) for label, count in self.failed.items()}
        self.failed = dict.fromkeys(self.settings, 0)
        if not self.tells:
            return failed
        try:
            return failed | ray.get(self.pools.figures.remote())
        except ray.exceptions.RayError:  # it is being started again; its counts are lost
            return failed

    def let_go(self) -> None:
        """Forget the pools: videos under way are not waited for."""
        self.pools = None

    def close(self) -> None:
        """Let go; whoever started the pools ends them."""
        self.let_go()


@dataclass(frozen=True)
class _Asked:
    """Scores under way. calls: by the labels of a pool. stored: the videos, kept while they are scored.

    asked: the labels of the result.
    """

    scorer: ActorScorer
    calls: Mapping[tuple[str, ...], Any]
    stored: Sequence[Any]
    asked: Sequence[str]

    def result(self) -> Scores:
        """Wait, then return the scores by label."""
        found: Scores = {}
        for labels, call in self.calls.items():
            found |= self._answer(labels, call)
        for label in self.asked:
            self.scorer.failed[label] += sum(isinstance(one, Unscored) for one in found[label])
        return {label: found[label] for label in self.asked}

    def _answer(self, labels: tuple[str, ...], call: Any) -> Scores:
        import ray

        try:
            return ray.get(call)
        except ray.exceptions.RayError as error:
            why = f"the actor that keeps its processes was lost: {first_line(error)}"
            names = {label: self.scorer.settings[label].reward.name for label in labels}
            return {label: [Unscored(f"{name}: {why}")] * len(self.stored) for label, name in names.items()}


class Joined:
    """Several scorers as one, each of rewards of its own."""

    def __init__(self, parts: Sequence[Scorer]) -> None:
        self.parts = list(parts)

    def submit(self, videos: Sequence[Video], labels: Collection[str] | None = None) -> Pending:
        """Begin to score videos by all of them; returns at once."""
        return _JoinedPending([part.submit(videos, labels) for part in self.parts])

    def describe(self) -> dict[str, dict[str, object]]:
        """Return by label what each reward is, for lineage."""
        return {label: told for part in self.parts for label, told in part.describe().items()}

    def figures(self) -> dict[str, float]:
        """Return the figures of all of them since the last call; those without a label added up."""
        out: dict[str, float] = {}
        for part in self.parts:
            for name, value in part.figures().items():
                out[name] = out.get(name, 0.0) + value
        return out

    def close(self) -> None:
        """Close all of them."""
        for part in self.parts:
            part.close()


@dataclass(frozen=True)
class _JoinedPending:
    parts: Sequence[Pending]

    def result(self) -> Scores:
        return {label: scores for part in self.parts for label, scores in part.result().items()}


# --- starting and joining --------------------------------------------------------------------------------------------


def _agreed(world: World, start: Callable[[], list[str]]) -> list[str]:
    """Call on the first rank; return its words on every rank. Raises TrainError on every rank where it failed there."""
    problem, words = "", ["", "", ""]
    if world.is_first:
        try:
            words = start()
        except (ReelError, OSError) as error:
            problem = str(error)
    problem, *words = world.broadcast([problem, *words])
    if problem:
        raise TrainError(problem)
    return words


def _agreed_join(
    words: Sequence[str], settings: Mapping[str, PoolSettings], world: World, stack: ExitStack
) -> ActorScorer:
    """Return the scorer of pools that the first rank has started; all ranks fail together."""
    import ray

    address, name, auth_mode = words
    problem, pools = "", None
    try:
        if not world.is_first:
            stack.enter_context(cluster(address, auth_mode=auth_mode))
        pools = ray.get_actor(name, namespace=NAMESPACE)
    except (ReelError, ValueError) as error:
        problem = (
            f"rank {world.rank} cannot reach the rewards of the first rank at {address}: {first_line(error)}; with "
            "ranks on several machines, start a Ray cluster over them and set RAY_ADDRESS"
        )
    failed = int(world.sum([float(bool(problem))])[0])
    if problem or failed:
        raise TrainError(problem or f"{failed} other ranks cannot reach the rewards; their output says why")
    return ActorScorer(pools, settings, tells=world.is_first)


def _start(
    settings: Mapping[str, PoolSettings], world: World, stack: ExitStack, say: Callable[[str], None]
) -> list[str]:
    """Start or join Ray, and the pools; return the cluster's address, the name of their keeper, and Ray's auth mode."""
    import ray

    joined = ray.is_initialized() or bool(os.environ.get("RAY_ADDRESS"))
    keys = {label: keys_of(label, one.reward) for label, one in settings.items()}
    is_of_ranks = ray.is_initialized()  # Ray Train's: its GPUs are the ranks' by Ray's own word
    with gpus_of_rewards(world, joined=joined):
        stack.enter_context(cluster())
    on_gpus = world.device.type == "cuda" and any(members.gpus for members in members_of(settings))
    if joined and not is_of_ranks and on_gpus and (line := gpus_in_common_here()):
        say(line)
    share = cpu_share(settings, joined=joined, say=say)
    placed = {
        label: PoolSettings(one.reward, one.processes, one.time_limit_s, keys[label], share)
        for label, one in settings.items()
    }  # fmt: skip
    name = f"rewards-{uuid.uuid4().hex[:12]}"
    pools = (
        ray.remote(RewardPools)
        .options(
            name=name, namespace=NAMESPACE, num_cpus=0, max_restarts=-1, max_task_retries=1,
            scheduling_strategy="DEFAULT",
        )
        .remote(placed)
    )  # fmt: skip
    stack.callback(ray.kill, pools)
    told = ", ".join(members.told for members in members_of(settings))
    say(f"rewards of their own processes: {told}")
    try:
        whys = ray.get(pools.start.remote(), timeout=2 * START_LIMIT_S)
    except ray.exceptions.RayError as error:
        raise TrainError(f"the processes of the rewards cannot start: {first_line(error)}") from error
    for label, why in whys.items():
        raise TrainError(f"reward {label!r} ({settings[label].reward.name}) cannot start: {why}")
    return [ray.get_runtime_context().gcs_address, name, os.environ.get(AUTH_MODE, "")]


def keys_of(label: str, reward: Reward) -> dict[str, str]:
    """Return the environment variables that a reward needs.

    Raises:
        TrainError: one is not set here.
    """
    found = {variable: os.environ.get(variable, "") for variable in reward.keys}
    for variable, key in found.items():
        if not key or not key.isprintable():
            raise TrainError(
                f"reward {label!r} needs the environment variable {variable}, which holds no key here; export it where "
                "this run starts"
            )
    return found


def cpu_share(settings: Mapping[str, PoolSettings], *, joined: bool, say: Callable[[str], None]) -> float:
    """Return the share of their CPUs that processes get; say so where they have to wait for room.

    A Ray of this run alone has no other use for its CPUs, so they are shared out; in a cluster of others' work,
    processes wait for what they ask for.

    Raises:
        TrainError: a Ray of this run alone has too few GPUs.
    """
    import ray

    cpus, gpus = (
        sum(getattr(members, kind) * members.processes for members in members_of(settings)) for kind in ("cpus", "gpus")
    )
    free = ray.available_resources() if joined else ray.cluster_resources()
    free_cpus, free_gpus = free.get("CPU", 0.0), free.get("GPU", 0.0)
    if not joined and gpus > free_gpus:
        raise TrainError(
            f"rewards ask for {gpus:g} GPUs, but {free_gpus:g} are left beside the ranks; start fewer ranks, join a "
            "cluster (RAY_ADDRESS), have them scored elsewhere (kind: service), or set local: true to share the ranks'"
        )
    if not joined:
        return min(1.0, free_cpus / cpus) if cpus else 1.0
    if cpus > free_cpus or gpus > free_gpus:
        say(
            f"rewards ask for {cpus:g} CPUs and {gpus:g} GPUs, and the cluster has {free_cpus:g} and {free_gpus:g} "
            f"free: they wait for room, {START_LIMIT_S / 60:g} minutes at most"
        )
    return 1.0
