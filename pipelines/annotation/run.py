"""Bring stored clips up to date: compute what an annotator has not computed yet, or computed otherwise.

Annotators go in levels: those of a level read columns of earlier ones only. Within a level they stream side by side,
each on its lane. Only columns of stale annotators are touched; a clip on which one has failed is left alone until the
annotator or what it reads changes, or a retry is asked for.
"""

import json
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import pyarrow as pa

from reelwright.annotate import Annotator, Computes, Facts, Frames, SetAnnotator, schema_of
from reelwright.annotate.contract import needs_of
from reelwright.curation.store import Store
from reelwright.curation.store.failures import Resolver
from reelwright.curation.store.journal import Journal
from reelwright.curation.store.schema import schemas
from reelwright.pipelines.annotation.batches import Batch, batches_of
from reelwright.pipelines.annotation.keys import Keys, keys_of
from reelwright.pipelines.annotation.lanes import ActorLane, Lane, Outcome, TaskLane, need_of, placement
from reelwright.pipelines.annotation.load import in_levels, prepare_columns, producers_of
from reelwright.pipelines.annotation.sets import run_set, set_standing
from reelwright.pipelines.annotation.spending import Spending, Usage, no_usage
from reelwright.pipelines.annotation.standing import STALE, Standing, standing_of
from reelwright.pipelines.history import History
from reelwright.pipelines.progress import Progress
from reelwright.pipelines.recipe import CurateRecipe
from reelwright.pipelines.rows import failure_row
from reelwright.pipelines.versions import versions

HELD_CLIPS = 4096  # results in this process before they are committed
POLL_S = 0.2


@dataclass
class Report:
    """What a run did, by annotator. seconds: of computing, on whatever worker; those of decoding under "decode"."""

    done: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    postponed: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    clips: set[str] = field(default_factory=set)  # that some annotator was tried on
    why_postponed: dict[str, str] = field(default_factory=dict)
    usage: Usage = field(default_factory=no_usage)


def looks_at_clips(annotator: Computes) -> bool:
    return any(isinstance(need, Frames | Facts) for need in needs_of(annotator))


def runs_while_cutting(annotator: Computes) -> bool:
    """Whether it can share the decode of a clip that was just cut: nothing else of the clip exists yet."""
    is_light = isinstance(annotator, Annotator) and not annotator.resources.own_process
    return is_light and all(isinstance(need, Frames | Facts) for need in needs_of(annotator))


def is_current(
    store: Store, annotators: Mapping[str, Computes], *, retry_failed: bool = False, where: str | None = None
) -> bool:
    """Whether `annotate_stale` would find nothing to do."""
    of_clips, of_sets = _kinds(annotators)
    if not standing_of(store, of_clips, retry_failed=retry_failed, where=where).is_current:
        return False
    return all(set_standing(store, a, retry_failed=retry_failed).is_current for a in of_sets.values())


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
    """Annotate what is missing or stale, and note it in `report`. Needs Ray to be running. Interrupted, it keeps what
    is done.

    where: a SQL condition on clips; annotators of sets look at all clips nevertheless.
    """
    prepare_columns(store, annotators)
    levels, keys = in_levels(annotators), keys_of(annotators)
    spending = Spending(annotators, recipe.limits.max_cost_usd, report.usage)
    for number, names in enumerate(levels, 1):
        of_clips, of_sets = _kinds({n: annotators[n] for n in names})
        standing = standing_of(store, of_clips, retry_failed=retry_failed, where=where)
        if not standing.is_current:
            progress.what = f"annotate {number}/{len(levels)}"
            _Level(store, recipe, of_clips, standing, report, progress, keys, spending).run()
        for name, annotator in of_sets.items():
            progress.what = f"annotate {number}/{len(levels)} {name}"
            _run_set(store, recipe, name, annotator, report, progress, retry_failed, keys, spending)
    _index_vectors(store, annotators, report)


def annotate_and_record(
    store: Store,
    recipe: CurateRecipe,
    annotators: Mapping[str, Computes],
    progress: Progress,
    *,
    retry_failed: bool = False,
    where: str | None = None,
) -> Report:
    """`annotate_stale`, with a row in `runs`, from which later plans know what an annotator costs."""
    began, report, state = datetime.now(UTC), Report(), "interrupted"
    try:
        annotate_stale(store, recipe, annotators, progress, report, retry_failed=retry_failed, where=where)
        state = "finished"
    finally:
        row = {
            "run_id": uuid.uuid4().hex[:12],
            "command": "annotate",
            "recipe": recipe.to_yaml(),
            "versions": json.dumps(versions()),
            "counts": json.dumps(dict(report.done)),
            "stage_seconds": json.dumps({k: round(v, 4) for k, v in report.seconds.items()}),
            "stage_bytes": "{}",
            "usage": json.dumps(report.usage),
            "state": state,
            "started_at": began,
            "ended_at": datetime.now(UTC),
        }
        if report.done or report.failed or report.postponed:
            store.ensure_columns("runs", [schemas()["runs"].field("usage")])  # a store of an earlier version lacks it
            store.append("runs", [row])
    return report


def _index_vectors(store: Store, annotators: Mapping[str, Computes], report: Report) -> None:
    """For search: where there are enough vectors for an index to pay."""
    for name in report.done:
        for column, about in annotators[name].columns.items():
            if pa.types.is_fixed_size_list(about.type):
                store.index_vectors("clips", column)


def _kinds(annotators: Mapping[str, Computes]) -> tuple[dict[str, Annotator], dict[str, SetAnnotator]]:
    return (
        {n: a for n, a in annotators.items() if isinstance(a, Annotator)},
        {n: a for n, a in annotators.items() if isinstance(a, SetAnnotator)},
    )


class _Level:
    """One pass over the clips that some annotator of a level has to do."""

    def __init__(
        self,
        store: Store,
        recipe: CurateRecipe,
        annotators: Mapping[str, Annotator],
        standing: Standing,
        report: Report,
        progress: Progress,
        keys: Keys,
        spending: Spending,
    ) -> None:
        self.keys, self.spending = keys, spending
        self.stopped: set[str] = set()  # annotators that are handed no more clips
        self.store, self.recipe, self.annotators, self.standing = store, recipe, annotators, standing
        self.report, self.progress = report, progress
        self.total = sum(standing.count(name, STALE) for name in annotators)
        self.finished = 0
        self.found: dict[tuple[str, ...], list[dict[str, Any]]] = {}  # rows to commit, by the annotators that ran
        self.journal, self.mending = Journal(store), Resolver(store, list(annotators))
        self.failures: list[dict[str, Any]] = []
        self.committed_at = time.monotonic()

    def run(self) -> None:
        with ExitStack() as stack:
            stack.callback(self._commit, last=True)  # whatever ends the run: what is computed is kept
            stack.callback(self._count_left)
            lanes = list(self._lanes())
            for lane in lanes:
                stack.callback(lane.close)
            while lanes:
                for lane in list(lanes):
                    for outcome in lane.next_done(POLL_S / len(lanes)):
                        self._collect(lane, outcome)
                    if not lane:  # gives its actors' CPUs and GPUs to those that wait for them
                        lane.close()
                        lanes.remove(lane)
                if self._is_due():
                    self._commit()
                self.progress.show(self.finished, self.total, failures=sum(self.report.failed.values()))

    def _lanes(self) -> Iterator[Lane]:
        stale = {n: a for n, a in self.annotators.items() if self.standing.count(n, STALE) and not self._is_refused(n)}
        own = {n: a for n, a in stale.items() if a.resources.own_process}
        producers = producers_of(self.store)
        for looks in (True, False):
            some = {n: a for n, a in stale.items() if n not in own and looks_at_clips(a) == looks}
            if some:
                batches = self._batches(some, self.recipe.batches.annotate_clips * (1 if looks else 16))
                yield TaskLane(batches, self.store.uri, producers, self.recipe, some, looks=looks)
        for name, annotator in own.items():
            need, size = placement(annotator, self.recipe)
            one = annotator.shared_by(size)
            batches = self._batches({name: one}, one.resources.batch, one.resources.calls + 1)
            keys = Keys({k: self.keys[k] for k in annotator.keys})
            yield ActorLane(batches, one, need, size, self.store.uri, producers, self.recipe, keys)

    def _batches(self, annotators: Mapping[str, Annotator], clips: int, at_once: int = 1) -> Iterator[Batch]:
        """at_once: batches that a process holds together."""
        frame_bytes = (self.recipe.limits.memory_mib << 20) // at_once
        return batches_of(self.store, self.standing, annotators, clips=clips, frame_bytes=frame_bytes)

    def _collect(self, lane: Lane, outcome: Outcome) -> None:
        for place, result in zip(outcome.clips, outcome.results, strict=True):
            clip_id = outcome.batch.clip_ids[place]
            computed = tuple(n for n in outcome.batch.names if f"{n}_fingerprint" in result["columns"])
            if computed:
                self.found.setdefault(computed, []).append({"clip_id": clip_id} | result["columns"])
            self.mending.works(computed, clip_id)
            self.report.done.update(computed)
            self.report.clips.add(clip_id)
            self.report.seconds.update(result.get("seconds", {}))
            for failed in result["failures"]:
                if failed.get("postponed"):
                    self._postpone(lane, failed)
                else:
                    self._fail(outcome.batch, place, failed)
            self.finished += len(outcome.batch.names)
            self.spending.add(result.get("usage", {}))
        for name in outcome.batch.names:
            if self._is_refused(name):
                lane.stop(name)

    def _is_refused(self, name: str) -> bool:
        """Whether a limit on cost forbids it to go on."""
        why = self.spending.refusal(name)
        if why:
            self.stopped.add(name)
            self.report.why_postponed.setdefault(name, why)
        return bool(why)

    def _postpone(self, lane: Lane, why: dict[str, Any]) -> None:
        self.stopped.add(why["stage"])
        self.report.why_postponed.setdefault(why["stage"], why["message"])
        lane.stop(why["stage"])

    def _count_left(self) -> None:
        """Clips that are left for another run."""
        for name in self.stopped:
            left = self.standing.count(name, STALE) - self.report.done[name] - self.report.failed[name]
            if left > 0:
                self.report.postponed[name] = left
            else:
                del self.report.why_postponed[name]

    def _fail(self, batch: Batch, place: int, why: dict[str, str]) -> None:
        self.report.failed[why["stage"]] += 1
        fingerprint = self.standing.expected[why["stage"]][batch.places[place]].as_py()
        clip_id, md5 = batch.clip_ids[place], batch.source_md5s[place]
        uri = self._uris.get(md5, "")
        attempts = self._history.attempts(uri, why["stage"], clip_id) + 1
        row = failure_row(uri, md5, clip_id, why, attempts, fingerprint)
        self.failures.append(row | {"at": datetime.now(UTC)})

    @cached_property
    def _history(self) -> History:
        return History(self.store, (), self.recipe.cutting_fingerprint)

    @cached_property
    def _uris(self) -> dict[str, str]:
        """Source md5 -> uri; read where something fails."""
        rows = self.store.read("sources", ["md5", "uri"], filter="state = 'ok'").to_pylist()
        return {r["md5"]: r["uri"] for r in rows}

    def _is_due(self) -> bool:
        """Enough rows, or enough time: slow annotators must not lose hours to a crash."""
        late = time.monotonic() - self.committed_at >= self.recipe.batches.commit_s
        return late or sum(map(len, self.found.values())) >= HELD_CLIPS

    def _commit(self, *, last: bool = False) -> None:
        """last: the next level reads `clips`, so the journal's results go there too."""
        self.committed_at = time.monotonic()
        self.mending.commit()
        for names, rows in self.found.items():
            self.journal.add(" ".join(names), pa.Table.from_pylist(rows, self._schema(names)), merge=last)
        self.found.clear()
        if last:
            self.journal.merge()
        if self.failures:
            self.store.append("failures", self.failures)
            self.failures = []

    def _schema(self, names: Sequence[str]) -> pa.Schema:
        fields = [f for name in names for f in schema_of(self.annotators[name])]
        return pa.schema([pa.field("clip_id", pa.string()), *fields])


def _run_set(
    store: Store,
    recipe: CurateRecipe,
    name: str,
    annotator: SetAnnotator,
    report: Report,
    progress: Progress,
    retry_failed: bool,
    keys: Keys,
    spending: Spending,
) -> None:
    standing = set_standing(store, annotator, retry_failed=retry_failed)
    if standing.is_current:
        return
    if refusal := spending.refusal(name):
        report.postponed[name] += standing.clips
        report.why_postponed[name] = refusal
        return
    progress.show(0, standing.clips)
    need, params = need_of(annotator, recipe), dict(recipe.annotator_params())[name]
    outcome = run_set(store, name, params, need, recipe.limits.attempts, Keys({k: keys[k] for k in annotator.keys}))
    spending.add(outcome.usage)
    report.seconds[name] += outcome.seconds  # type: ignore[assignment]
    progress.show(standing.clips, standing.clips)
    if outcome.postponed:
        report.postponed[name] += standing.clips
        report.why_postponed[name] = outcome.error
    elif outcome.error:
        report.failed[name] += 1
        why = {"stage": name, "message": outcome.error, "detail": outcome.detail}
        store.append("failures", [failure_row("", None, None, why, 1, standing.expected) | {"at": datetime.now(UTC)}])
    else:
        report.done[name] += outcome.clips
