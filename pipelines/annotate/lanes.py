"""Ways that batches take to workers: tasks that share one decode of a clip, and actors that keep one annotator."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from reelwright.annotate import Annotator, Computes
from reelwright.annotate.keys import Keys
from reelwright.annotate.results import Annotated
from reelwright.curation.credentials import use
from reelwright.curation.results import Failed
from reelwright.pipelines.annotate import tasks
from reelwright.pipelines.annotate.actor import AnnotatorActor
from reelwright.pipelines.annotate.batches import Batch
from reelwright.pipelines.annotate.context import AnnotationRun
from reelwright.pipelines.annotate.watch import Watch
from reelwright.pipelines.recipes.curation import CurateRecipe, Need, OwnNeed
from reelwright.pipelines.runtime.actors import Actors, Work
from reelwright.pipelines.runtime.flow import Flow


@dataclass(frozen=True)
class Outcome:
    """Results of a batch, or of a part of it that came back alone."""

    clips: tuple[int, ...]  # places in the batch
    batch: Batch
    results: Sequence[Annotated]


class Lane(Protocol):
    """Takes batches as it has room for them; false once all are done."""

    def __bool__(self) -> bool: ...
    def next_done(self, timeout_s: float) -> list[Outcome]:
        """Return the outcomes that arrive within `timeout_s` seconds."""

    def figures(self) -> Mapping[str, Mapping[str, float]]:
        """Return stage -> what its work took so far in all lanes, how much waits here and how much is in flight."""

    def stop(self, name: str) -> None:
        """Hand this annotator no more clips."""

    def close(self) -> None:
        """Drop queued work and end the lane's workers."""


class TaskLane:
    """Tasks: annotators of frames in a sandbox that decodes once; arithmetic on columns for the rest."""

    def __init__(
        self,
        batches: Iterator[Batch],
        run: AnnotationRun,
        producers: Mapping[str, str],
        names: Collection[str],
        *,
        looks: bool,
    ) -> None:
        recipe = run.recipe
        self.names = set(names)  # of the annotators that are handed clips
        self.batches, self.producers, self.looks = batches, producers, looks
        self.store_uri = run.store.uri
        self.params, self.limits = dict(recipe.annotator_params()), recipe.limits.model_dump()
        function = tasks.annotate if looks else tasks.derive
        self.flow = Flow(
            {"annotate": (function, recipe.resources.annotate, 1)}, attempts=recipe.limits.attempts,
            prepare=partial(use, recipe.credentials),
        )  # fmt: skip
        self.flow.stages = run.report.stages  # of all levels and both kinds of tasks
        self.exhausted = False

    def __bool__(self) -> bool:
        return bool(self.flow) or not self.exhausted

    def next_done(self, timeout_s: float) -> list[Outcome]:
        """Start tasks while there is room, and return the outcomes that arrive within `timeout_s` seconds."""
        self._feed()
        return [_outcome(done.context, done.value) for done in self.flow.next_done(timeout_s)]

    def figures(self) -> Mapping[str, Mapping[str, float]]:
        """Return what the tasks took, by stage."""
        return self.flow.figures()

    def stop(self, name: str) -> None:
        """Hand this annotator no more clips; with no annotator left, the lane is done."""
        self.names.discard(name)
        self.exhausted |= not self.names

    def close(self) -> None:
        """Drop the tasks in flight."""
        self.flow.forget()

    def _feed(self) -> None:
        while not self.exhausted and self.flow.waiting("annotate") < 2 * self.flow.slots():
            batch = next(self.batches, None)
            if batch is None:
                self.exhausted = True
                return
            batch = replace(batch, names=tuple(n for n in batch.names if n in self.names))
            if not batch.names:
                continue
            work = [(name, self.params[name]) for name in batch.names]
            if self.looks:
                args = (self.store_uri, batch.clip_ids, work, self.limits, batch.rows, self.producers)
                self.flow.add("annotate", batch, *args)
            else:
                self.flow.add("annotate", batch, batch.rows, work, self.producers)


class ActorLane:
    """`size` actors that keep one annotator; `annotator`: as it is in one of them."""

    def __init__(
        self,
        batches: Iterator[Batch],
        annotator: Annotator,
        run: AnnotationRun,
        producers: Mapping[str, str],
        needs: Need,
        size: int,
    ) -> None:
        import ray

        self.batches, self.exhausted = batches, False
        self.waiting: dict[str, tuple[Batch, int]] = {}  # clip id -> its batch, and its place there
        calls = annotator.resources.calls + 1  # one more decodes meanwhile
        actor: Any = ray.remote(AnnotatorActor).options(
            num_cpus=needs.cpus, num_gpus=needs.gpus, max_concurrency=calls + 1
        )  # one thread is left to report the reason why the others wait
        params = dict(run.recipe.annotator_params())[annotator.name]
        keys = Keys({key: run.keys[key] for key in annotator.keys})
        credentials = dict(run.recipe.credentials)
        arguments = (annotator.name, params, run.store.uri, producers, keys, credentials, size)
        self.actors = Actors(lambda: actor.remote(*arguments), size, ahead=calls)
        self.actors.start()
        self.watch, self.name = Watch(annotator.name), annotator.name

    def __bool__(self) -> bool:
        return bool(self.actors) or not self.exhausted

    def next_done(self, timeout_s: float) -> list[Outcome]:
        """Hand out batches while actors are free, and return the outcomes that arrive within `timeout_s` seconds."""
        self._feed()
        if not self.actors:
            return []
        self.watch.look(self.actors.actors)
        return [outcome for result in self.actors.next_done(timeout_s) for outcome in self._outcomes(result)]

    def figures(self) -> Mapping[str, Mapping[str, float]]:
        """Return the batches that wait, and those that actors are at; by the annotator's name."""
        return {self.name: {"queued": len(self.actors.queue), "in_flight": self.actors.in_flight}}

    def stop(self, name: str) -> None:
        """Forget queued batches; wait for the batches in flight."""
        self.exhausted = True
        self.actors.queue.clear()

    def close(self) -> None:
        """End the actors."""
        self.actors.close()

    def _feed(self) -> None:
        while not self.exhausted and len(self.actors.queue) < self.actors.size:
            batch = next(self.batches, None)
            if batch is None:
                self.exhausted = True
                return
            self.waiting |= {clip_id: (batch, i) for i, clip_id in enumerate(batch.clip_ids)}
            rows = dict(zip(batch.clip_ids, batch.rows, strict=True))
            self.actors.queue.append(Work("annotate", (rows,), batch.clip_ids))

    def _outcomes(self, result: Any) -> Iterator[Outcome]:
        """Yield the outcomes of a batch, which comes back in pieces where its actor was lost."""
        items = [self.waiting.pop(clip_id) for clip_id in result.work.items]
        batch = items[0][0]
        indices = tuple(index for _, index in items)
        if result.value is not None:
            yield Outcome(indices, batch, result.value)
        else:
            lost = Failed(batch.names[0], f"the worker was lost ({result.lost})", result.lost)
            yield Outcome(indices, batch, [Annotated(failures=[lost])] * len(indices))


def placement(annotator: Annotator, recipe: CurateRecipe) -> tuple[Need, int]:
    """Return the resources of one actor, and the number of actors: by the recipe, else a share of the cluster."""
    import ray

    need = need_of(annotator, recipe)
    _warn(annotator.name, need)
    return need, size_of(annotator, recipe, ray.cluster_resources())


def size_of(annotator: Annotator, recipe: CurateRecipe, cluster: Mapping[str, float]) -> int:
    """Return the number of an annotator's actors. cluster: its resources, as Ray names them."""
    own, wants, need = recipe.resources.annotators.get(annotator.name), annotator.resources, need_of(annotator, recipe)
    if own and own.actors:
        return own.actors
    if need.gpus:
        return max(1, int(cluster.get("GPU", 0) / need.gpus))
    cpus = int(cluster.get("CPU", 1))
    if wants.processes:
        return min(wants.processes, max(1, cpus // 2))
    return 1 if wants.calls > 1 else max(1, cpus // 8)


def need_of(annotator: Computes, recipe: CurateRecipe) -> Need:
    """CPUs and GPUs of one worker: the recipe's word, else what the annotator asks for."""
    own, wants = recipe.resources.annotators.get(annotator.name, OwnNeed()), annotator.resources
    return Need(cpus=wants.cpus if own.cpus is None else own.cpus, gpus=wants.gpus if own.gpus is None else own.gpus)


def _warn(name: str, need: Need) -> None:
    """Ray waits in silence for a node that can take an actor; an autoscaler may bring one, so it is no error."""
    import ray

    nodes = [n["Resources"] for n in ray.nodes() if n["Alive"]]
    if not any(n.get("CPU", 0) >= need.cpus and n.get("GPU", 0) >= need.gpus for n in nodes):
        print(
            f"warning: no node has the {need.cpus:g} CPUs and {need.gpus:g} GPUs that annotator '{name}' wants "
            f"(recipe: resources.annotators.{name}); waiting for one",
            file=sys.stderr,
            flush=True,
        )


def _outcome(batch: Batch, value: Sequence[Annotated] | Failed) -> Outcome:
    indices = tuple(range(len(batch.clip_ids)))
    if isinstance(value, Failed):  # the task's worker was lost for good
        lost = Annotated(failures=[value.at(name) for name in batch.names])
        return Outcome(indices, batch, [lost] * len(indices))
    return Outcome(indices, batch, value)
