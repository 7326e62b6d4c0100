"""What annotators will have to do, looked up in a store and a recipe."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from reelwright.annotate import Annotator, Computes, SetAnnotator
from reelwright.curation.store import Store
from reelwright.pipelines.annotate.lanes import need_of, size_of
from reelwright.pipelines.annotate.load import in_levels
from reelwright.pipelines.annotate.plan import make_plan, measured_seconds
from reelwright.pipelines.annotate.time_ahead import ACTORS, SET, TASKS, Ahead, AnnotatingAhead
from reelwright.pipelines.recipes.curation import CurateRecipe

COUNTED = 1_000_000
"""Stored clips that are looked at for stale ones, which takes some 3 s; among more, a run begins without."""
LEAST_CLIPS = 100
"""Of a run, before its seconds per clip go before those that a class states: a set of six takes a worker's start."""


def annotating_ahead(
    store: Store,
    recipe: CurateRecipe,
    annotators: Mapping[str, Computes],
    while_cutting: Collection[str],
    *,
    retry_failed: bool = False,
    where: str | None = None,
) -> AnnotatingAhead:
    """Return what annotators will have to do. Ray must run.

    Args:
        store: as it is before a curation, or where there is none.
        recipe: of the run.
        annotators: by name.
        while_cutting: those whose values new clips get as they are cut.
        retry_failed: whether clips are tried again that failed before.
        where: a SQL condition on stored clips.
    """
    import ray

    cluster, clips = ray.cluster_resources(), store.count("clips")
    stated = {name: a.typical_s for name, a in annotators.items() if a.typical_s is not None}
    each_s = measured_seconds(store) | stated | measured_seconds(store, LEAST_CLIPS)
    is_counted = 0 < clips <= COUNTED
    planned = make_plan(store, annotators, retry_failed=retry_failed, where=where) if is_counted else []
    stale = {row.name: row.stale + row.waiting for row in planned}
    works = []
    for level, names in enumerate(in_levels(annotators)):
        for name in names:
            annotator, need = annotators[name], need_of(annotators[name], recipe)
            own, calls = annotator.resources.own_process, max(1, annotator.resources.calls)
            work = Ahead(name, level, TASKS, each_s.get(name), stale.get(name, 0))
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
