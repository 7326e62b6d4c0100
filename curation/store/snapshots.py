"""Snapshots: a frozen, named set of clips with weights, which later curation, compaction and clean-up cannot lose.

A snapshot is its rows (clip id, weight, position) and three Lance tags that pin the versions of clips, media and
sources it was made from. Its content hash covers what a training run depends on, which clips with which weights, and
not how they came to be chosen: see `snapshot_check.content_hash`. The same SQL with the same limit and seed over the
same versions gives the same hash: such queries run on one thread, and `random()` in them starts from the seed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from reelwright.curation.store import snapshot_query
from reelwright.curation.store.clip_media import LOOKUP_IDS, quote
from reelwright.curation.store.errors import StoreError, look_alikes
from reelwright.curation.store.schema import schemas
from reelwright.curation.store.snapshot_check import MEDIA_SAMPLES, PINNED, SnapshotCheck, check, content_hash
from reelwright.curation.store.snapshot_query import LimitPer
from reelwright.curation.store.weighting import Balance

if TYPE_CHECKING:
    from reelwright.curation.store.store import Store

JSON_LATER = ("balance", "limit_per")  # columns of JSON that stores of earlier versions lack
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Snapshot:
    """A row of `snapshots`; its clips are `Snapshots.rows(name)`.

    fingerprints: annotator -> fingerprint -> clips.
    balance: how its weights were made, where they were: see `balance.describe`.
    limit_per: {"column", "count"} where so many clips per value were drawn.
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


@dataclass(frozen=True)
class Use:
    """A run that a snapshot was given to."""

    command: str
    started_at: datetime
    place: str  # its folder, where it has one


@dataclass(frozen=True)
class SnapshotDiff:
    """What turns snapshot `a` into `b`. reweighted: (clip_id, weight in a, weight in b)."""

    a: str
    b: str
    added: list[str]
    removed: list[str]
    reweighted: list[tuple[str, float, float]]
    kept: int


class Snapshots:
    """The snapshots of a store: `store.snapshots`."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def create(
        self,
        name: str,
        sql: str,
        *,
        limit: int | None = None,
        seed: int = 0,
        weights: str | None = None,
        balance: Balance | None = None,
        limit_per: LimitPer | None = None,
    ) -> Snapshot:
        """Freeze the clips that `sql` returns as `name`.

        sql: a SELECT that returns clip_id, each clip once.
        limit_per: draw at most so many of them per value of a column, by `seed` and the clip ids alone.
        limit: draw that many of what is left, in the same way, so in whatever order they came.
        weights: the query's column of weights (finite, above 0; default 1 each).
        balance: make the weights instead, from the density or the clusters of the clips as pinned.
        Its last commit is the row in `snapshots`: killed before that, there is no snapshot, and the name is free.
        """
        check_name(name)
        with self.store.committing("snapshots"):  # clean-up waits for this lock, so the versions stay until tagged
            versions = {table: self.store.dataset(table).version for table in PINNED}
            if self._find(name) is not None:
                raise StoreError(f"snapshot {name} exists, and snapshots never change; choose another name.")
            chosen = snapshot_query.choose(
                self.store, sql, versions, limit=limit, seed=seed, weights=weights, balance=balance,
                limit_per=limit_per,
            )  # fmt: skip
            rows = chosen.rows
            snapshot = Snapshot(
                name, sql, limit, seed, weights, rows.num_rows, content_hash(rows), f"snapshot-{name}",
                versions["clips"], versions["media"], versions["sources"], chosen.fingerprints, datetime.now(UTC),
                chosen.balance, asdict(limit_per) if limit_per else None,
            )  # fmt: skip
            self._commit(snapshot, rows)
        return snapshot

    def uses(self, name: str) -> list[Use]:
        """Find the runs that `name` was given to since it was made, oldest first."""
        made = self.show(name).created_at
        rows = self.store.read("runs", ["command", "counts", "started_at"]).sort_by("started_at").to_pylist()
        found = [(row, json.loads(row["counts"] or "{}")) for row in rows if row["started_at"] >= made]
        return [
            Use(row["command"], row["started_at"], counts.get("folder") or "")
            for row, counts in found
            if counts.get("snapshot") == name
        ]

    def delete(self, name: str) -> None:
        """Forget a snapshot and let go of the versions that it pinned; `cleanup` then frees what nothing else needs.

        Its row goes first: killed after that, there is no snapshot, and the same call removes the rest. Raises
        StoreError if there is neither.
        """
        check_name(name)
        with self.store.committing("snapshots"):
            tag, rows = f"snapshot-{name}", f"snapshot = {quote(name)}"
            tagged = [table for table in PINNED if tag in self.store.dataset(table).tags.list()]
            if not tagged and not self.store.count("snapshot_rows", rows):
                self.show(name)
            self.store.delete("snapshots", f"name = {quote(name)}")
            self.store.delete("snapshot_rows", rows)
            for table in tagged:
                self.store.dataset(table).tags.delete(tag)

    def list(self) -> list[Snapshot]:
        """Every snapshot, oldest first."""
        rows = self.store.read("snapshots").to_pylist()
        return sorted((_from_row(row) for row in rows), key=lambda s: (s.created_at, s.name))

    def show(self, name: str) -> Snapshot:
        """One snapshot. Raises StoreError, with names that look alike, if there is none."""
        found = self._find(name)
        if found is None:
            alike = look_alikes(name, [s.name for s in self.list()])
            hint = f"; names that look alike: {', '.join(alike)}" if alike else ""
            raise StoreError(f"there is no snapshot {name!r}{hint}. See: reel snapshot list")
        return found

    def rows(self, name: str) -> pa.Table:
        """(clip_id, weight, position) in order of position."""
        self.show(name)
        rows = self.store.read("snapshot_rows", ["clip_id", "weight", "position"], f"snapshot = {quote(name)}")
        return rows.sort_by("position")

    def clips(self, name: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The clips as they were when pinned, with `weight` and `position`, in order, some 2,000 at a time."""
        version = self.show(name).clips_version
        rows = self.rows(name)
        for start in range(0, rows.num_rows, LOOKUP_IDS):
            yield snapshot_query.with_clip_columns(
                self.store, rows.slice(start, LOOKUP_IDS), columns, clips_version=version
            )

    def read_media(self, name: str, clip_ids: Sequence[str] | None = None) -> Iterator[tuple[str, bytes]]:
        """(clip_id, mp4) as pinned; all of the snapshot's, or those asked for."""
        ids = self.rows(name).column("clip_id").to_pylist() if clip_ids is None else clip_ids
        return self.store.read_media(ids, version=self.show(name).media_version)

    def diff(self, a: str, b: str) -> SnapshotDiff:
        """What is in `b` and not in `a`, the other way round, and in both with another weight; sorted by clip id."""
        old, new = self._weights(a), self._weights(b)
        both = sorted(old.keys() & new.keys())
        return SnapshotDiff(
            a, b,
            added=sorted(new.keys() - old.keys()),
            removed=sorted(old.keys() - new.keys()),
            reweighted=[(i, old[i], new[i]) for i in both if old[i] != new[i]],
            kept=len(both),
        )  # fmt: skip

    def verify(self, name: str, *, media_samples: int | None = MEDIA_SAMPLES) -> SnapshotCheck:
        """Check its hash, that the tags still pin its versions, and that clips and media are still there.

        media_samples: clips, spread over the snapshot, whose bytes are read whole; None reads every one.
        """
        return check(self.store, self.show(name), self.rows(name), media_samples)

    # --- helpers -------------------------------------------------------------------------------------------------

    def _find(self, name: str) -> Snapshot | None:
        rows = self.store.read("snapshots", filter=f"name = {quote(name)}").to_pylist()
        return _from_row(rows[0]) if rows else None

    def _commit(self, snapshot: Snapshot, rows: pa.Table) -> None:
        """Tags, then rows, then the snapshot's own row; what a killed attempt left under the name is replaced."""
        for table in PINNED:
            tags = self.store.dataset(table).tags
            write = tags.update if snapshot.tag in tags.list() else tags.create
            write(snapshot.tag, getattr(snapshot, f"{table}_version"))
        if self.store.count("snapshot_rows", f"snapshot = {quote(snapshot.name)}"):
            self.store.delete("snapshot_rows", f"snapshot = {quote(snapshot.name)}")
        names = pa.DictionaryArray.from_arrays(pa.array([0] * rows.num_rows, pa.int32()), [snapshot.name])
        self.store.append("snapshot_rows", rows.append_column("snapshot", names.cast(pa.string())))
        row = {name: _as_stored(value) for name, value in asdict(snapshot).items()}
        later = [schemas()["snapshots"].field(column) for column in JSON_LATER]
        self.store.ensure_columns("snapshots", later)  # a store may be older than they are
        self.store.append("snapshots", [row])

    def _weights(self, name: str) -> dict[str, float]:
        rows = self.rows(name)
        return dict(zip(rows.column("clip_id").to_pylist(), rows.column("weight").to_pylist(), strict=True))


def check_name(name: str) -> None:
    """Raises StoreError unless `name` is 1 to 100 letters, digits, `.`, `_` or `-`, the first a letter or digit."""
    if not NAME.fullmatch(name) or ".." in name or name.endswith((".", ".lock")):
        raise StoreError(
            f"{name!r} cannot name a snapshot; use up to 100 letters, digits, '.', '_' and '-', "
            "beginning with a letter or digit, without '..' and without '.' at the end."
        )


def _from_row(row: dict[str, Any]) -> Snapshot:
    known: dict[str, Any] = {f.name: row.get(f.name) for f in fields(Snapshot)}
    known["fingerprints"] = json.loads(row["fingerprints"] or "{}")
    known |= {column: json.loads(row.get(column) or "null") for column in JSON_LATER}  # an older store lacks them
    return Snapshot(**known)


def _as_stored(value: Any) -> Any:
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else value
