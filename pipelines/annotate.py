"""Bring stored clips up to date: compute what an annotator has not computed yet, or computed with other code.

Only the columns of stale annotators are touched. A clip on which an annotator has failed is left alone until the
annotator changes or a retry is asked for.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import pyarrow as pa

from annotate import Annotator, load, refuse_shared_columns, schema_of
from curation.store import Store
from pipelines import tasks
from pipelines.flow import Flow
from pipelines.history import History
from pipelines.progress import Progress
from pipelines.recipe import CurateRecipe, RecipeError
from pipelines.rows import failure_row

MERGE_CLIPS = 4096  # merged at once: a merge rewrites its columns for each fragment that it touches


@dataclass(frozen=True)
class _Stale:
    clip_id: str
    source_md5: str
    names: tuple[str, ...]  # annotators to run on it


def load_annotators(recipe: CurateRecipe) -> dict[str, Annotator]:
    """The recipe's annotators by name, in its order. Raises RecipeError."""
    try:
        annotators = {name: load(name, params) for name, params in recipe.annotator_params()}
        refuse_shared_columns(list(annotators.values()))
    except ValueError as error:
        raise RecipeError(f"annotators: {error}") from error
    return annotators


def annotate_stale(store: Store, recipe: CurateRecipe, progress: Progress, *, retry_failed: bool = False) -> int:
    """Annotate what is missing or stale; returns the number of clips that were."""
    annotators = load_annotators(recipe)
    store.ensure_columns("clips", [f for a in annotators.values() for f in schema_of(a)])
    stale = find_stale(store, annotators, retry_failed=retry_failed)
    if stale:
        _Catching(store, recipe, annotators, progress).run(stale)
    return len(stale)


def find_stale(store: Store, annotators: dict[str, Annotator], *, retry_failed: bool) -> list[_Stale]:
    """Clips on which some annotator's fingerprint is not the current one, in the table's order."""
    if not annotators:
        return []
    prints = {f"{name}_fingerprint": a.fingerprint for name, a in annotators.items()}
    condition = " OR ".join(f"{column} IS NULL OR {column} != '{value}'" for column, value in prints.items())
    rows = store.read("clips", ["clip_id", "source_md5", *prints], filter=condition)
    failed = set() if retry_failed else _failed(store)
    out = []
    for row in rows.to_pylist():
        names = tuple(
            name
            for name, a in annotators.items()
            if row[f"{name}_fingerprint"] != a.fingerprint and (row["clip_id"], name, a.fingerprint) not in failed
        )
        if names:
            out.append(_Stale(row["clip_id"], row["source_md5"], names))
    return out


def _failed(store: Store) -> set[tuple[str, str, str]]:
    rows = store.read("failures", ["clip_id", "stage", "fingerprint"], filter="clip_id IS NOT NULL")
    return {(r["clip_id"], r["stage"], r["fingerprint"]) for r in rows.to_pylist()}


class _Catching:
    """One pass over stale clips."""

    def __init__(
        self, store: Store, recipe: CurateRecipe, annotators: dict[str, Annotator], progress: Progress
    ) -> None:
        self.store, self.recipe, self.annotators, self.progress = store, recipe, annotators, progress
        self.params = dict(recipe.annotator_params())
        self.flow = Flow({"annotate": (tasks.annotate, recipe.resources.annotate, 1)}, attempts=recipe.limits.attempts)
        self.found: dict[tuple[str, ...], list[dict[str, Any]]] = {}  # rows to merge, by the annotators that ran
        self.failures: list[dict[str, Any]] = []
        self.committed_at = time.monotonic()
        self.history = History(store, (), recipe.cutting_fingerprint)

    def run(self, stale: Sequence[_Stale]) -> None:
        for names, clips in _grouped(stale):
            work = [(name, self.params[name]) for name in names]
            size = self.recipe.batches.annotate_clips
            for start in range(0, len(clips), size):
                batch = clips[start : start + size]
                ids = [c.clip_id for c in batch]
                self.flow.add("annotate", (names, batch), self.store.uri, ids, work, self.recipe.limits.model_dump())
        done = 0
        while self.flow:
            for task in self.flow.next_done():
                names, batch = task.context
                self._collect(names, batch, task.value)
                done += len(batch)
            if self._is_due():
                self._commit()
            self.progress.show(done, len(stale), failures=len(self.failures))
        self._commit()

    def _is_due(self) -> bool:
        """Enough rows for one merge, or enough time: slow annotators must not lose hours to a crash."""
        late = time.monotonic() - self.committed_at >= self.recipe.batches.commit_s
        return late or sum(map(len, self.found.values())) >= MERGE_CLIPS

    def _collect(self, names: tuple[str, ...], batch: list[_Stale], value: dict[str, Any]) -> None:
        results = value.get("clips") or [{"columns": {}, "failures": [value["failure"]]} for _ in batch]
        for clip, result in zip(batch, results, strict=True):
            computed = tuple(n for n in names if f"{n}_fingerprint" in result["columns"])
            if computed:
                self.found.setdefault(computed, []).append({"clip_id": clip.clip_id} | result["columns"])
            for failed in result["failures"]:
                self._fail(clip, failed)

    def _fail(self, clip: _Stale, why: dict[str, str]) -> None:
        fingerprint = self.annotators[why["stage"]].fingerprint if why["stage"] in self.annotators else ""
        uri = self._uris.get(clip.source_md5, "")
        attempts = self.history.attempts(uri, why["stage"], clip.clip_id) + 1
        row = failure_row(uri, clip.source_md5, clip.clip_id, why, attempts, fingerprint)
        self.failures.append(row | {"at": datetime.now(UTC)})

    @cached_property
    def _uris(self) -> dict[str, str]:
        """Source md5 -> uri; read where something fails."""
        rows = self.store.read("sources", ["md5", "uri"], filter="state = 'ok'").to_pylist()
        return {r["md5"]: r["uri"] for r in rows}

    def _commit(self) -> None:
        self.committed_at = time.monotonic()
        for names, rows in self.found.items():
            fields = [pa.field("clip_id", pa.string())]
            for name in names:
                fields += list(schema_of(self.annotators[name]))
            self.store.merge("clips", pa.Table.from_pylist(rows, pa.schema(fields)), on="clip_id")
        self.found.clear()
        if self.failures:
            self.store.append("failures", self.failures)
            self.failures = []


def _grouped(stale: Sequence[_Stale]) -> list[tuple[tuple[str, ...], list[_Stale]]]:
    groups: dict[tuple[str, ...], list[_Stale]] = {}
    for clip in stale:
        groups.setdefault(clip.names, []).append(clip)
    return list(groups.items())
