"""The time that annotators will take once a curation has cut its clips, by what a clip of each takes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from reelwright.annotate import Annotator, Computes, SetAnnotator
from reelwright.curation.store import Store
from reelwright.pipelines.annotate.lanes import need_of, size_of
from reelwright.pipelines.annotate.load import in_levels
from reelwright.pipelines.annotate.plan import make_plan, measured_seconds
from reelwright.pipelines.recipes.curation import CurateRecipe

COUNTED = 1_000_000
"""Stored clips that are looked at for stale ones, which takes some 3 s; among more, a run begins without."""
TASKS, ACTORS, SET = "tasks", "actors", "set"


@dataclass(frozen=True)
class Ahead:
    """What an annotator has yet to do.

    Args:
        name: of the annotator.
        level: its number; a level begins once the one before has ended.
        kind: TASKS take turns with those of others, ACTORS are its own, a SET has one worker once its level is done.
        each_s: seconds of a worker per clip; None: not known.
        stored: clips of the store that it has to do.
        takes_new: whether it has to do the clips that are yet to be cut; others are annotated while they are cut.
        again: clips of the store that it does again once one is new.
        workers: clips that it computes at once, of ACTORS.
        cpus: cores for each of them.
        gpus: likewise.
    """

    name: str
    level: int
    kind: str
    each_s: float | None
    stored: int = 0
    takes_new: bool = True
    again: int = 0
    workers: float = 1.0
    cpus: float = 1.0
    gpus: float = 0.0

    def clips(self, new: float) -> float:
        """Return how many clips it has to do. new: clips that the curation cuts."""
        return (max(self.again, self.stored) + new) if self.takes_new and new else self.stored


@dataclass(frozen=True)
class AnnotatingAhead:
    """All that is annotated once the clips are cut.

    Args:
        works: by annotator.
        cpus: of the cluster.
        gpus: likewise.
        not_looked_at: clips of the store of which it is not known whether they are stale.
    """

    works: Sequence[Ahead]
    cpus: float
    gpus: float = 0.0
    not_looked_at: int = 0

    def seconds(self, new: float) -> float:
        """Return the seconds that it takes, if a clip takes what it took so far. new: clips that the curation cuts."""
        levels = {work.level for work in self.works}
        return sum(self._level_s([work for work in self.works if work.level == level], new) for level in levels)

    def left_out(self, new: float) -> list[str]:
        """Return, for a reader, what `seconds` leaves out. new: as there."""
        unknown = [work.name for work in self.works if work.each_s is None and work.clips(new)]
        return unknown + ([f"{self.not_looked_at:,} stored clips"] if self.not_looked_at else [])

    def _level_s(self, works: Sequence[Ahead], new: float) -> float:
        """No annotator is done before its own workers are, and all of them share the machines."""
        took = {work.name: work.clips(new) * (work.each_s or 0.0) for work in works}
        own = [took[work.name] / work.workers for work in works if work.kind == ACTORS]
        beside = [work for work in works if work.kind != SET]
        of_cpus = sum(took[work.name] * work.cpus for work in beside) / max(1.0, self.cpus)
        of_gpus = sum(took[work.name] * work.gpus for work in beside) / max(1.0, self.gpus)
        return max([of_cpus, of_gpus, *own]) + sum(took[work.name] for work in works if work.kind == SET)


def annotating_ahead(
    store: Store,
    recipe: CurateRecipe,
    annotators: Mapping[str, Computes],
    while_cutting: Collection[str],
    *,
    retry_failed: bool = False,
) -> AnnotatingAhead:
    """Return what a curation's annotators will have to do after it. Ray must run.

    Args:
        store: as it is before the curation.
        recipe: of the run.
        annotators: by name.
        while_cutting: those whose values new clips get as they are cut.
        retry_failed: whether clips are tried again that failed before.
    """
    import ray

    cluster, clips, measured = ray.cluster_resources(), store.count("clips"), measured_seconds(store)
    is_counted = 0 < clips <= COUNTED
    planned = make_plan(store, annotators, retry_failed=retry_failed) if is_counted else []
    stale = {row.name: row.stale + row.waiting for row in planned}
    works = []
    for level, names in enumerate(in_levels(annotators)):
        for name in names:
            annotator, need = annotators[name], need_of(annotators[name], recipe)
            own, calls = annotator.resources.own_process, max(1, annotator.resources.calls)
            work = Ahead(name, level, TASKS, measured.get(name, annotator.typical_s), stale.get(name, 0))
            if isinstance(annotator, SetAnnotator):
                work = replace(work, kind=SET, again=clips)
            elif isinstance(annotator, Annotator) and own:
                workers = size_of(annotator, recipe, cluster) * calls
                work = replace(work, kind=ACTORS, workers=workers, cpus=need.cpus / calls, gpus=need.gpus / calls)
            else:
                cpus = max(1.0, recipe.resources.annotate.cpus)
                work = replace(work, takes_new=name not in while_cutting, cpus=cpus)
            works.append(work)
    return AnnotatingAhead(works, cluster.get("CPU", 1.0), cluster.get("GPU", 0.0), 0 if is_counted else clips)
