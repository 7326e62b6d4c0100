"""Bring stored clips up to date: compute values that are missing, or that were computed under other settings.

Annotators go in levels: a level reads columns of earlier levels only. Within a level they stream side by side,
each on its lane. Only columns of stale annotators are touched; a clip on which one has failed is left alone until the
annotator or its inputs change, or a retry is asked for.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial

import pyarrow as pa

from reelwright.annotate import Annotator, Computes, Facts, Frames, SetAnnotator
from reelwright.annotate.contract import needs_of
from reelwright.annotate.keys import Keys, keys_of
from reelwright.curation.records.rows import failure_row
from reelwright.curation.records.runs import recorded_run
from reelwright.curation.results import Failed
from reelwright.curation.store import Store
from reelwright.pipelines.annotate.context import AnnotationRun, Report
from reelwright.pipelines.annotate.level import Level
from reelwright.pipelines.annotate.load import in_levels, prepare_columns
from reelwright.pipelines.annotate.looking_ahead import annotating_ahead
from reelwright.pipelines.annotate.sets import run_set, set_staleness
from reelwright.pipelines.annotate.spending import Spending
from reelwright.pipelines.annotate.staleness import Staleness
from reelwright.pipelines.recipes.curation import CurateRecipe
from reelwright.pipelines.runtime.meter import StoreMeter
from reelwright.pipelines.runtime.progress import Progress


def runs_while_cutting(annotator: Computes) -> bool:
    """Return whether it can share the decode of a clip that was just cut: nothing else of the clip exists yet."""
    is_light = isinstance(annotator, Annotator) and not annotator.resources.own_process
    return is_light and all(isinstance(need, Frames | Facts) for need in needs_of(annotator))


def is_current(
    store: Store, annotators: Mapping[str, Computes], *, retry_failed: bool = False, where: str | None = None
) -> bool:
    """Return whether `annotate_stale` would find nothing to do."""
    of_clips, of_sets = _kinds(annotators)
    if not Staleness(store, of_clips, retry_failed=retry_failed, where=where).is_current:
        return False
    return all(set_staleness(store, a, retry_failed=retry_failed).is_current for a in of_sets.values())


def failed_before(store: Store, annotators: Mapping[str, Computes], *, where: str | None = None) -> int:
    """Return how many annotations failed in earlier runs, and are not tried again unless that is asked for."""
    of_clips, of_sets = _kinds(annotators)
    sets = [set_staleness(store, a) for a in of_sets.values()]
    return Staleness(store, of_clips, where=where).failed + sum(bool(s.stale) and s.failed for s in sets)


def annotate_stale(
    store: Store,
    recipe: CurateRecipe,
    annotators: Mapping[str, Computes],
    progress: Progress,
    report: Report,
    *,
    retry_failed: bool = False,
    where: str | None = None,
) -> None:
    """Annotate the clips whose values are missing or stale, and record it in `report`.

    It needs Ray to be running. Interrupted, it keeps finished results.

    Args:
        store: the store.
        recipe: the recipe.
        annotators: by name.
        progress: the display.
        report: of the run.
        retry_failed: try clips again that failed before.
        where: a SQL condition on clips; annotators of sets look at all clips nevertheless.
    """
    prepare_columns(store, annotators)
    levels = in_levels(annotators)
    spending = Spending(annotators, recipe.limits.max_cost_usd, report.usage)
    look_ahead = partial(annotating_ahead, store, recipe, annotators, (), retry_failed=retry_failed, where=where)
    run = AnnotationRun(store, recipe, progress, keys_of(annotators), spending, report, retry_failed, look_ahead)
    for number, names in enumerate(levels, 1):
        of_clips, of_sets = _kinds({n: annotators[n] for n in names})
        staleness = Staleness(store, of_clips, retry_failed=retry_failed, where=where)
        if not staleness.is_current:
            progress.what = f"annotate {number}/{len(levels)}"
            Level(run, of_clips, staleness).run()
        for name, annotator in of_sets.items():
            progress.what = f"annotate {number}/{len(levels)} {name}"
            _annotate_set(run, name, annotator)
    _index_vectors(store, annotators, report)


def annotate_and_record(
    store: Store,
    recipe: CurateRecipe,
    annotators: Mapping[str, Computes],
    progress: Progress,
    *,
    retry_failed: bool = False,
    where: str | None = None,
    asked: StoreMeter | None = None,
) -> Report:
    """`annotate_stale`, with a row in `runs`, from which later plans know an annotator's cost.

    asked: counts this process's requests to the store since the run began; default: from here on.
    """
    report, asked = Report(), asked or StoreMeter(store)
    with recorded_run(store, "annotate", recipe.to_yaml()) as run:
        progress.tell = run.tell
        try:
            annotate_stale(store, recipe, annotators, progress, report, retry_failed=retry_failed, where=where)
        finally:
            run.counts, run.stage_seconds = dict(report.done), dict(report.seconds)
            run.usage = report.usage
            stages = {name: stage.to_json() for name, stage in report.stages.items()}
            run.stages = stages | {"store": asked.end()}
            run.is_recorded = bool(report.done or report.failed or report.postponed)
    return report


def _index_vectors(store: Store, annotators: Mapping[str, Computes], report: Report) -> None:
    """For search: where there are enough vectors for an index to pay."""
    for name in report.done:
        for column, spec in annotators[name].columns.items():
            if pa.types.is_fixed_size_list(spec.type):
                store.index_vectors("clips", column)


def _kinds(annotators: Mapping[str, Computes]) -> tuple[dict[str, Annotator], dict[str, SetAnnotator]]:
    return (
        {n: a for n, a in annotators.items() if isinstance(a, Annotator)},
        {n: a for n, a in annotators.items() if isinstance(a, SetAnnotator)},
    )


def _annotate_set(run: AnnotationRun, name: str, annotator: SetAnnotator) -> None:
    store, recipe, report = run.store, run.recipe, run.report
    staleness = set_staleness(store, annotator, retry_failed=run.retry_failed)
    if staleness.is_current:
        return
    if refusal := run.spending.refusal(name):
        report.postponed[name] += staleness.clips
        report.why_postponed[name] = refusal
        return
    seen = Counter[str]()
    run.progress.details = lambda _: {"stages": _told(report)} | run.time_left(seen)

    def show(clips: int) -> None:
        seen[name] = clips
        run.progress.show(clips, staleness.clips)

    show(0)
    keys = Keys({key: run.keys[key] for key in annotator.keys})
    outcome = run_set(store, recipe, annotator, keys, show, report.stages)
    run.spending.add(outcome.usage)
    report.seconds[name] += outcome.seconds  # type: ignore[assignment]
    if outcome.took:
        run.count(name, outcome.took)
    run.count_store()
    show(staleness.clips)
    if outcome.postponed:
        report.postponed[name] += staleness.clips
        report.why_postponed[name] = outcome.error
    elif outcome.error:
        report.failed[name] += 1
        why = Failed(name, outcome.error, outcome.detail)
        store.append("failures", [failure_row("", None, None, why, 1, staleness.expected) | {"at": datetime.now(UTC)}])
    else:
        report.done[name] += outcome.clips


def _told(report: Report) -> dict[str, dict[str, float]]:
    """Return what each stage has taken so far; a set's tasks are counted as they end."""
    return {of: stage.to_json() | {"queued": 0, "in_flight": 0} for of, stage in dict(report.stages).items()}
