"""What goes on in a store: the funnel and failures as they are now, runs under way, runs that ended."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from reelwright.curation.records.status import under_way
from reelwright.curation.store import Store
from reelwright.curation.store.sql_text import literal
from reelwright.errors import UserError
from reelwright.pipelines.app.about import shown
from reelwright.pipelines.browse.report import facts

WATCHED = ("sources", "shots", "clips", "failures", "runs")
MOST_FAILURES, MOST_LETTERS = 50, 2_000
OF_RUN = ("counts", "stage_seconds", "stage_bytes", "usage", "versions")


class Watching:
    """A store's funnel, failures and runs, computed again only when one of their tables has changed.

    Args:
        store: that is watched.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._versions: tuple[int, ...] = ()
        self._facts: dict[str, Any] = {}

    def now(self) -> dict[str, Any]:
        """Return the funnel, failures and runs; those under way as they are in this moment."""
        with self._lock:
            versions = tuple(self._store.dataset(table).version for table in WATCHED)
            if versions != self._versions:
                self._facts, self._versions = self._gather(), versions
            return {"under_way": [_note(one) for one in under_way(self._store.uri)], **self._facts}

    def _gather(self) -> dict[str, Any]:
        groups, more = facts.failure_groups(self._store)
        sources = facts.count_sources(self._store)
        return {
            "sources": {**asdict(sources), "other": sources.other},
            "funnel": [asdict(stage) for stage in facts.funnel(self._store, "clips", None)],
            "failures": [{name: shown(value, MOST_LETTERS) for name, value in one.items()} for one in groups],
            "more_failures": more,
            "newest": self._newest(),
            "runs": [run_facts(one) for one in facts.runs(self._store)],
        }

    def _newest(self) -> list[dict[str, Any]]:
        query = (
            'SELECT coalesce(uri, source_md5) AS uri, clip_id, stage, error, attempts, "at" FROM failures '
            f'WHERE mended_at IS NULL ORDER BY "at" DESC LIMIT {MOST_FAILURES}'
        )
        rows = self._store.sql(query).to_pylist()
        return [{name: shown(value, MOST_LETTERS) for name, value in row.items()} for row in rows]


def about_run(store: Store, run_id: str) -> dict[str, Any]:
    """Return all about a run that ended. Raises UserError where there is none of that id."""
    rows = store.read("runs", filter=f"run_id = {literal(run_id)}").to_pylist()
    if not rows:
        raise UserError(f"there is no run {run_id[:40]}")
    row = rows[0]
    return {
        "run_id": row["run_id"], "command": row["command"], "state": row["state"],
        "started_at": shown(row["started_at"]), "ended_at": shown(row["ended_at"]),
        "recipe": shown(row["recipe"] or ""),
        **{name: _flat(row.get(name)) for name in OF_RUN},
    }  # fmt: skip


def run_facts(run: facts.Run) -> dict[str, Any]:
    """Return a run as a list shows it."""
    return {**asdict(run), "started_at": shown(run.started_at), "counts": _flat(run.counts)}


def _note(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a page shows of a run under way: its file may hold anything."""
    owner, began = told["owner"], datetime.fromtimestamp(told["began"], UTC).isoformat()
    words = {name: str(told.get(name) or "")[:200] for name in ("command", "what")}
    numbers = {name: _whole(told.get(name)) for name in ("done", "total")}
    where = {"host": str(owner.get("host") or "")[:200], "pid": _whole(owner.get("pid"))}
    return {**words, **numbers, **where, "state": told["state"], "started_at": began, "seen_at": told["told"],
            "counts": _flat(told.get("counts"))}  # fmt: skip


def _whole(value: Any) -> int:
    return value if type(value) is int and 0 <= value < 2**53 else 0


def _flat(value: Any) -> dict[str, Any]:
    """Return what JSON text, or its object, holds, by dotted name: numbers and words."""
    from reelwright.pipelines.evaluate.compare import flat

    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return {}
    found = flat(value) if isinstance(value, Mapping) else ()
    return {name[:200]: _plain(one) for name, one in list(found)[:200]}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float)):
        return shown(value)
    return shown(value if isinstance(value, str) else json.dumps(value, default=str), 500)
