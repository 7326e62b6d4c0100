"""Measures of an evaluation's generations, as columns of `generations`; only stale ones are made again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from reelwright.annotate.contract import Annotator, Column, schema_of
from reelwright.annotate.results import Annotated
from reelwright.curation.limits import Limits
from reelwright.curation.records.runs import recorded_run
from reelwright.curation.results import Failed
from reelwright.curation.store import Store
from reelwright.evaluation.measures import registry
from reelwright.pipelines.evaluate.counts import Measured
from reelwright.pipelines.evaluate.measuring import Measurer
from reelwright.pipelines.evaluate.nearest import embedding_of, fill_nearest, is_nearest
from reelwright.pipelines.evaluate.run import LOCK, Options
from reelwright.pipelines.runtime.actors import Actors, Result, Work
from reelwright.pipelines.runtime.progress import Progress

GENERATIONS_A_CALL = 8
COMMIT_S = 10.0


@dataclass(frozen=True)
class _Task:
    """A measure, how it is loaded, and the generations where it is stale."""

    measure: Annotator
    params: Mapping[str, Any]
    stale: frozenset[str]

    @property
    def work(self) -> tuple[str, dict[str, Any]]:
        return self.measure.name, dict(self.params)


def measure(store: Store, evaluation: str, names: Sequence[str], options: Options) -> Measured:
    """Measure the generations of an evaluation that are ok.

    Args:
        store: has them.
        evaluation: its id.
        names: of measures, and of annotators of clips; empty: those that every evaluation runs.
        options: of the run.

    Raises:
        EvaluationError: a measure cannot be used.
    """
    names = list(names) or [*registry.defaults(), "nearest"]
    with store.committing(LOCK):
        ids = _ok(store, evaluation)
        found = Measured(len(ids))
        tasks = _tasks(store, evaluation, names, ids, found, retry_failed=options.retry_failed)
        if any(task.stale for task in tasks):
            _run(store, tasks, found, options)
        if any(map(is_nearest, names)):
            fill_nearest(store, evaluation, found)
    return found


def _ok(store: Store, evaluation: str) -> list[str]:
    rows = store.read("generations", ["generation_id"], f"evaluation_id = '{evaluation}' AND state = 'ok'")
    return rows.column(0).to_pylist()


def _tasks(
    store: Store, evaluation: str, names: Sequence[str], ids: list[str], found: Measured, *, retry_failed: bool
) -> list[_Task]:
    """Load the measures, and find the generations where each is stale."""
    given: dict[str, Mapping[str, Any]] = {name: {} for name in names if not is_nearest(name)}
    if any(map(is_nearest, names)):
        params, why = embedding_of(store)
        if why:
            found.notes.append(why)
        else:
            given["visual_embedding"] = params
    loaded = registry.load_all(given)
    store.ensure_columns("generations", [f for one in loaded for f in _fields(one)])
    columns = [f"{one.name}_{what}" for one in loaded for what in ("fingerprint", "error")]
    condition = f"evaluation_id = '{evaluation}' AND state = 'ok'"
    rows = store.read("generations", ["generation_id", *columns], condition).to_pylist()
    tasks = []
    for one in loaded:
        stale = frozenset(
            row["generation_id"] for row in rows
            if row[f"{one.name}_fingerprint"] != one.fingerprint or (retry_failed and row[f"{one.name}_error"])
        )  # fmt: skip
        found.current[one.name] = len(ids) - len(stale)
        before = [row for row in rows if row["generation_id"] not in stale and row[f"{one.name}_error"]]
        found.failed[one.name] += len(before)
        if before:
            found.why[one.name] = before[0][f"{one.name}_error"]
        tasks.append(_Task(one, given[one.name], stale))
    return tasks


def _fields(one: Annotator) -> list[pa.Field]:
    """Return the measure's columns, its fingerprint, and why it has no value."""
    error = Column(pa.string(), f"why the {one.name} columns are null; null: they are not")
    return [*schema_of(one), error.field(f"{one.name}_error", one.name)]


def _run(store: Store, tasks: Sequence[_Task], found: Measured, options: Options) -> None:
    run = _Run(store, tasks, found)
    with (
        recorded_run(store, "evaluate", f"measures: {', '.join(task.measure.name for task in tasks)}") as record,
        options.cluster(),
        Progress("measures", quiet=options.quiet) as progress,
    ):
        progress.tell = record.tell
        try:
            run.all(options.workers, progress)
        finally:
            run.commit()
            record.counts = {"measured": sum(found.made.values()), "failed": sum(found.failed.values())}
            record.stage_seconds = dict(run.seconds)


class _Run:
    """Values on their way from workers into columns."""

    def __init__(self, store: Store, tasks: Sequence[_Task], found: Measured) -> None:
        self.store, self.tasks, self.found = store, {task.measure.name: task for task in tasks}, found
        self.rows: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        self.seconds: Counter[str] = Counter()
        self.committed_at = time.monotonic()
        self.done, self.total = 0, sum(len(task.stale) for task in tasks)

    def all(self, workers: int | None, progress: Progress) -> None:
        """Run measures that share a decode, then each that keeps a model."""
        shared = [task for task in self.tasks.values() if not task.measure.resources.own_process]
        of_id: dict[str, list[str]] = {}
        for task in shared:
            for name in task.stale:
                of_id.setdefault(name, []).append(task.measure.name)
        groups: dict[tuple[str, ...], list[str]] = {}
        for name, measures in sorted(of_id.items()):
            groups.setdefault(tuple(measures), []).append(name)
        self._pool("sandboxed", groups, workers, progress)
        for task in self.tasks.values():
            if task.measure.resources.own_process and task.stale:
                self._pool("kept", {(task.measure.name,): sorted(task.stale)}, 1, progress)

    def _pool(
        self, method: str, groups: Mapping[tuple[str, ...], list[str]], workers: int | None, progress: Progress
    ) -> None:
        import ray

        items = sum(map(len, groups.values()))
        if not items:
            return
        cpus = max(1, int(ray.cluster_resources().get("CPU", 1)))
        size = min(workers or cpus, cpus, -(-items // GENERATIONS_A_CALL))
        gpus = self.tasks[next(iter(groups))[0]].measure.resources.gpus if method == "kept" else 0
        remote = ray.remote(Measurer).options(num_cpus=1, num_gpus=gpus)
        limits = Limits().model_dump()
        with Actors(lambda: remote.remote(self.store.uri, limits), size) as actors:
            for names, ids in groups.items():
                work = tuple(self.tasks[name].work for name in names)
                for start in range(0, len(ids), GENERATIONS_A_CALL):
                    actors.queue.append(Work(method, (work,), tuple(ids[start : start + GENERATIONS_A_CALL])))
            while actors:
                for result in actors.next_done():
                    self._collect(result)
                if time.monotonic() - self.committed_at >= COMMIT_S:
                    self.commit()
                progress.show(self.done, self.total, failed=sum(self.found.failed.values()))

    def _collect(self, result: Result) -> None:
        names = [name for name, _ in result.work.args[0]]
        lost = [Failed(name, f"the worker was lost ({result.lost})", result.lost) for name in names]
        values = result.value or [Annotated(failures=lost)] * len(result.work.items)
        for generation, value in zip(result.work.items, values, strict=True):
            self._add(generation, names, value)

    def _add(self, generation: str, names: Sequence[str], value: Annotated) -> None:
        """Keep one generation's values: a failure is null with its reason, and current until it is retried."""
        why = {failed.stage: failed for failed in value.failures}
        done: list[str] = []
        row: dict[str, Any] = {"generation_id": generation}
        for name in names:
            measure, failed = self.tasks[name].measure, why.get(name)
            self.done += 1
            if failed and failed.postponed:
                self.found.why.setdefault(name, failed.message)
                self.found.failed[name] += 1
                continue
            done.append(name)
            self.found.made[name] += not failed
            if failed:
                self.found.failed[name] += 1
                self.found.why.setdefault(name, failed.message)
            row |= {column: None if failed else value.columns[column] for column in measure.columns}
            row |= {f"{name}_fingerprint": measure.fingerprint, f"{name}_error": failed.message if failed else None}
        self.seconds.update(value.seconds)
        if done:
            self.rows.setdefault(tuple(done), []).append(row)

    def commit(self) -> None:
        """Put what has gathered into the table."""
        self.committed_at = time.monotonic()
        for names, rows in self.rows.items():
            fields = [f for name in names for f in _fields(self.tasks[name].measure)]
            schema = pa.schema([pa.field("generation_id", pa.string()), *fields])
            self.store.merge("generations", pa.Table.from_pylist(rows, schema), on="generation_id")
        self.rows = {}
