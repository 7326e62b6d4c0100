"""`reel evaluate`: every prompt of a suite by each model, on Ray. What is in the store is not made again."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from reelwright.curation.records.runs import recorded_run
from reelwright.curation.store import Store
from reelwright.curation.store.sql_text import is_one_of
from reelwright.evaluation.errors import EvaluationError
from reelwright.evaluation.suites.suite import Suite
from reelwright.pipelines.evaluate.generating import Made, Worker
from reelwright.pipelines.evaluate.models import Model, distinct, on_device
from reelwright.pipelines.evaluate.references import keep_references
from reelwright.pipelines.evaluate.wanted import Wanted, default_name, evaluation_id, shared_settings, wanted
from reelwright.pipelines.runtime.actors import Actors, Result, Work, pool_size
from reelwright.pipelines.runtime.cluster import cluster
from reelwright.pipelines.runtime.progress import Progress

LOCK = "evaluation"
COMMIT_S = 10.0
COMMIT_BYTES = 64 << 20
"""Videos are committed after so long, or once so many bytes have gathered: a kill costs no more than these."""


@dataclass(frozen=True)
class Options:
    """How to run.

    Args:
        name: of the evaluation; empty: by suite and settings.
        seed: of the first video of each prompt; the next has the next one.
        retry_failed: whether to make again what failed before.
        limit: of videos that are made now.
        workers: processes; None: one per GPU, or per CPU where there is none.
        address: of a Ray cluster.
        stack: keeps Ray from its first use to the end of a command with several steps; None: each step starts it.
        quiet: no progress.
    """

    name: str = ""
    seed: int = 0
    retry_failed: bool = False
    limit: int | None = None
    workers: int | None = None
    address: str | None = None
    stack: ExitStack | None = None
    quiet: bool = False

    @contextmanager
    def cluster(self) -> Iterator[None]:
        """Have Ray within the block."""
        if self.stack is None:
            with cluster(self.address):
                yield
        else:
            self.stack.enter_context(cluster(self.address))  # what runs already is joined
            yield


@dataclass
class Summary:
    """Counts of a run: wanted = before + failed_before + made + failed + left. why: model -> first reason."""

    name: str
    evaluation_id: str
    wanted: int
    before: int = 0
    failed_before: int = 0
    made: int = 0
    failed: int = 0
    left: int = 0
    seconds: float = 0.0
    by_model: dict[str, Counter[str]] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def evaluate(store: Store, suite: Suite, models: Sequence[Model], options: Options) -> Summary:
    """Make the videos that are missing, and return how many there are.

    Args:
        store: takes the videos and their rows.
        suite: of prompts.
        models: under comparison.
        options: how to run.

    Raises:
        EvaluationError: the evaluation of this name has other prompts, settings or weights.
        UserError: a model cannot be loaded.
    """
    models = distinct(models)
    settings = shared_settings(models, options.seed)
    name = options.name or default_name(suite, settings)
    found = evaluation_id(name, suite, settings)
    with store.committing(LOCK):
        store.complete_generations()
        _open_evaluation(store, name, found, suite, models, settings)
        keep_references(store, suite, models)
        every = list(wanted(found, suite, models, options.seed))
        todo, summary = _missing(store, name, found, every, options)
        summary.notes = _differences(models)
        if todo:
            _make(store, models, todo, summary, options)
    return summary


def _open_evaluation(
    store: Store, name: str, found: str, suite: Suite, models: Sequence[Model], settings: dict[str, Any]
) -> None:
    """Write the evaluation's row, or add models to it."""
    origins = {
        model.name: model.origin
        | {"fingerprint": model.fingerprint, "settings": {task: model.deciding(task) for task in model.settings}}
        for model in models
    }
    rows = {row["name"]: row for row in store.read("evaluations").to_pylist()}
    row = rows.get(name)
    if row is None:
        new = {"evaluation_id": found, "name": name, "at": datetime.now(UTC), "suite": suite.name,
               "suite_hash": suite.hash, "models": list(origins), "settings": json.dumps(settings),
               "prompts": len(suite.prompts), "wanted": suite.videos * len(models),
               "lineage": json.dumps(origins)}  # fmt: skip
        store.append("evaluations", [new])
        return
    if row["evaluation_id"] != found:
        raise EvaluationError(f"evaluation {name} has {_what_differs(row, suite, settings)}; give another --name")
    known = json.loads(row["lineage"])
    for model, origin in origins.items():
        if model in known and known[model].get("fingerprint") != origin["fingerprint"]:
            raise EvaluationError(
                f"model {model} of evaluation {name} had other weights ({_weights(known[model])}, and now "
                f"{_weights(origin)}); name it otherwise (NAME=PATH), or give another --name"
            )
        changed = _changed(known.get(model, {}).get("settings", {}), origin["settings"])
        if changed:
            raise EvaluationError(
                f"model {model} of evaluation {name} was sampled with other settings: {changed}; name it otherwise "
                "(NAME=PATH), or give another --name"
            )
    if origins.keys() - known.keys():
        together = {**known, **origins}
        more = pa.table({
            "evaluation_id": [found], "models": pa.array([list(together)], pa.list_(pa.string())),
            "wanted": [suite.videos * len(together)], "lineage": [json.dumps(together)],
        })  # fmt: skip
        store.merge("evaluations", more, on="evaluation_id")


def _what_differs(row: dict[str, Any], suite: Suite, settings: dict[str, Any]) -> str:
    if row["suite_hash"] != suite.hash:
        return f"other prompts (suite {row['suite']} with hash {row['suite_hash']}, and here {suite.hash})"
    before = json.loads(row["settings"])
    changed = [f"{key} {before.get(key)}, and here {value}" for key, value in settings.items()
               if key in before and before[key] != value]  # fmt: skip
    return "other settings: " + "; ".join(changed[:3])


def _changed(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Say which settings of a model differ, by task; JSON makes both plain."""
    here = json.loads(json.dumps(now))
    return "; ".join(
        f"{key} {before[task].get(key)}, and now {value}"
        for task in sorted(before.keys() & here.keys())
        for key, value in here[task].items()
        if before[task].get(key) != value
    )


def _weights(origin: dict[str, Any]) -> str:
    return f"{origin.get('checkpoint') or origin.get('weights')}, {origin['fingerprint'][:8]}"


def _missing(
    store: Store, name: str, found: str, every: list[Wanted], options: Options
) -> tuple[list[Wanted], Summary]:
    """Return the generations to make now, and counts of the others; failed ones go where they are tried again."""
    rows = store.read("generations", ["generation_id", "state"], f"evaluation_id = '{found}'").to_pylist()
    states = {row["generation_id"]: row["state"] for row in rows}
    asked = {one.row["generation_id"] for one in every}
    failed = [name for name, state in states.items() if state == "failed" and name in asked]
    if options.retry_failed and failed:
        store.delete("generations", is_one_of("generation_id", failed))
        states = {name: state for name, state in states.items() if state != "failed"}
    todo = [one for one in every if one.row["generation_id"] not in states]
    known = [states[name] for name in asked if name in states]
    now = todo[: options.limit]
    summary = Summary(name, found, len(every), known.count("ok"), known.count("failed"), left=len(todo) - len(now))
    for one in every:
        state = states.get(one.row["generation_id"], "missing")
        summary.by_model.setdefault(one.row["model"], Counter())[state] += 1
    return now, summary


def _make(store: Store, models: Sequence[Model], todo: list[Wanted], summary: Summary, options: Options) -> None:
    began, run = time.monotonic(), _Run(store, summary, len(todo))
    recipe = json.dumps({"evaluation": summary.name, "models": {m.name: str(m.path) for m in models}})
    try:
        with (
            recorded_run(store, "evaluate", recipe) as record,
            options.cluster(),
            Progress("evaluate", quiet=options.quiet) as progress,
        ):
            progress.tell = record.tell
            try:
                for model in models:
                    run.model(model, [one for one in todo if one.row["model"] == model.name], options, progress)
            finally:
                run.commit()
                record.counts = {"made": summary.made, "failed": summary.failed, "before": summary.before,
                                 "left": summary.wanted - summary.before - summary.failed_before - summary.made
                                 - summary.failed}  # fmt: skip
                record.stage_seconds = dict(run.seconds)
                record.stage_bytes = {"generate": run.bytes}
        store.merge_small_files(LOCK)
        store.index_generated()
    finally:
        summary.seconds = time.monotonic() - began


class _Run:
    """Videos on their way from workers into the store."""

    def __init__(self, store: Store, summary: Summary, total: int) -> None:
        self.store, self.summary, self.total = store, summary, total
        self.rows: list[dict[str, Any]] = []
        self.mp4s: dict[str, bytes] = {}
        self.seconds: Counter[str] = Counter()
        self.bytes = 0
        self.committed_at = time.monotonic()

    def model(self, model: Model, todo: list[Wanted], options: Options, progress: Progress) -> None:
        """Make one model's videos; it is loaded once per worker."""
        if not todo:
            return
        of_id = {one.job.generation_id: one for one in todo}
        with Actors(*_pool(model, len(todo), options.workers)) as actors:
            actors.refuse_unfit("evaluate")
            actors.queue.extend(Work("make", (one.job,), (one.job.generation_id,)) for one in todo)
            while actors:
                for result in actors.next_done():
                    self.collect(model, of_id[result.work.items[0]], result)
                if self.is_due():
                    self.commit()
                done = self.summary.made + self.summary.failed
                progress.show(done, self.total, failed=self.summary.failed)

    def collect(self, model: Model, one: Wanted, result: Result) -> None:
        """Take what came back for a generation."""
        made: Made = result.value or Made(error=f"the worker was lost ({result.lost})")
        state = "failed" if made.error else "ok"
        about = made.about or model.origin | {"settings": model.deciding(one.job.task), "seed": one.job.seed}
        facts = {"state": state, "error": made.error or None, "wall_s": made.wall_s, "at": datetime.now(UTC),
                 "lineage": json.dumps(about)}  # fmt: skip
        if not made.error:
            facts |= {"width": made.width, "height": made.height, "fps": made.fps, "num_frames": made.num_frames}
            self.mp4s[one.job.generation_id] = made.mp4
            self.bytes += len(made.mp4)
            self.summary.made += 1
        else:
            self.summary.failed += 1
            self.summary.why.setdefault(model.name, made.error)
        self.rows.append(one.row | facts)
        self.seconds["generate"] += made.wall_s  # type: ignore[assignment]
        self.summary.by_model[model.name].subtract(["missing"])
        self.summary.by_model[model.name][state] += 1

    def is_due(self) -> bool:
        """Return whether enough has gathered for a commit."""
        late = time.monotonic() - self.committed_at >= COMMIT_S
        return bool(self.rows) and (late or sum(map(len, self.mp4s.values())) >= COMMIT_BYTES)

    def commit(self) -> None:
        """Put what has gathered into the store."""
        rows, mp4s = self.rows, self.mp4s
        self.rows, self.mp4s, self.committed_at = [], {}, time.monotonic()
        self.store.add_generations(rows, mp4s)


def _pool(model: Model, items: int, workers: int | None) -> tuple[Any, int]:
    import ray

    size, share = pool_size(items, workers, use_gpus=model.options.device.startswith("cuda"))
    remote = ray.remote(Worker).options(num_cpus=1, num_gpus=share)
    placed = on_device(model, "cuda" if share else model.options.device)
    return (lambda: remote.remote(placed)), size


def _differences(models: Sequence[Model]) -> list[str]:
    """Say in which settings models differ, as each was trained: a comparison is of these too."""
    return list(_unequal(models)) if len(models) > 1 else []


def _unequal(models: Sequence[Model]) -> Iterator[str]:
    for task in sorted({task for model in models for task in model.settings}):
        flats = {model.name: model.deciding(task) for model in models}
        for key in next(iter(flats.values())):
            values = {name: flat[key] for name, flat in flats.items()}
            if len({json.dumps(value) for value in values.values()}) > 1:
                said = ", ".join(f"{name} {_short(value)}" for name, value in values.items())
                yield f"{task}: {key} differs: {said}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)[:24]
