"""A snapshot as a value: its row in the table `snapshots`, who used it, and how two differ."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any

JSON_COLUMNS_ADDED = ("balance", "limit_per", "distinct")  # columns of JSON that stores of earlier versions lack


@dataclass(frozen=True)
class Snapshot:
    """A row of `snapshots`; its clips are `Snapshots.rows(name)`.

    Args:
        name: of the snapshot.
        sql: the query that chose the clips.
        sample_limit: clips drawn from the query's rows; None is all of them.
        seed: of that draw.
        weight_column: the query's column of weights; None is weight 1.
        num_clips: clips in it.
        content_hash: see `snapshot_check.content_hash`.
        tag: the Lance tag that pins the versions below.
        clips_version: pinned version of clips.
        media_version: pinned version of media.
        sources_version: pinned version of sources.
        fingerprints: annotator -> fingerprint -> clips.
        created_at: when.
        balance: how its weights were made, where they were: see `weighting.describe`.
        limit_per: {"column", "count"} where so many clips per value were drawn.
        distinct: {"left_out", "without_group"}, clips, where near duplicates were left out.
    """

    name: str
    sql: str
    sample_limit: int | None
    seed: int
    weight_column: str | None
    num_clips: int
    content_hash: str
    tag: str
    clips_version: int
    media_version: int
    sources_version: int
    fingerprints: dict[str, dict[str, int]]
    created_at: datetime
    balance: dict[str, Any] | None = None
    limit_per: dict[str, Any] | None = None
    distinct: dict[str, Any] | None = None

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Snapshot:
        """Return the snapshot of a row of the table; an older store's row lacks some columns."""
        values: dict[str, Any] = {f.name: row.get(f.name) for f in fields(cls)}
        values["fingerprints"] = json.loads(row["fingerprints"] or "{}")
        values |= {column: json.loads(row.get(column) or "null") for column in JSON_COLUMNS_ADDED}
        return cls(**values)

    def as_row(self) -> dict[str, Any]:
        """Return the row of the table, dicts as JSON."""
        return {name: json.dumps(v, sort_keys=True) if isinstance(v, dict) else v for name, v in asdict(self).items()}


@dataclass(frozen=True)
class Use:
    """A run that a snapshot was given to."""

    command: str
    started_at: datetime
    place: str  # its folder, where it has one


@dataclass(frozen=True)
class SnapshotDiff:
    """Changes that turn snapshot `a` into `b`. reweighted: (clip_id, weight in a, weight in b)."""

    a: str
    b: str
    added: list[str]
    removed: list[str]
    reweighted: list[tuple[str, float, float]]
    kept: int
