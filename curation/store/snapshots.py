"""Snapshots: a frozen, named set of clips with weights, which later curation, compaction and clean-up cannot lose.

A snapshot is its rows (clip id, weight, position) and three Lance tags that pin the versions of clips, media and
sources it was made from. Its content hash covers all that a training run depends on, the clips and their weights, and
not how they came to be chosen: see `snapshot_check.content_hash`. The same SQL with the same limit and seed over the
same versions gives the same hash: such queries run on one thread, and `random()` in them starts from the seed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime

import pyarrow as pa

from reelwright.curation.store import clip_media, snapshot_query, snapshot_stream
from reelwright.curation.store.connection import Connection
from reelwright.curation.store.errors import StoreError, look_alikes
from reelwright.curation.store.given_weights import GivenWeights
from reelwright.curation.store.schema import schemas
from reelwright.curation.store.snapshot_check import (
    MEDIA_SAMPLES,
    PINNED,
    SnapshotCheck,
    check,
    content_hash,
    pinned_version,
)
from reelwright.curation.store.snapshot_query import Draw, LimitPer
from reelwright.curation.store.snapshot_record import JSON_COLUMNS_ADDED, Snapshot, SnapshotDiff, Use
from reelwright.curation.store.snapshot_weights import WeightReview, review
from reelwright.curation.store.sql_text import literal
from reelwright.curation.store.weighting import Balance

SCAN_FROM = 20
"""A snapshot of more than one in so many of a table's clips is read by a pass over the table."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Snapshots:
    """The snapshots of a store: `store.snapshots`."""

    def __init__(self, store: Connection) -> None:
        self.store = store

    def create(
        self,
        name: str,
        sql: str,
        *,
        limit: int | None = None,
        seed: int = 0,
        weights: str | Balance | GivenWeights | None = None,
        limit_per: LimitPer | None = None,
        distinct: bool = False,
    ) -> Snapshot:
        """Freeze the clips that `sql` returns as `name`.

            store.snapshots.create("sharp", "select clip_id from clips where blur_score > 100", limit=1_000, seed=7)

        Its last commit is the row in `snapshots`: killed before that, there is no snapshot, and the name is free.

        Args:
            name: see `check_name`.
            sql: a SELECT that returns clip_id, each clip once.
            limit: draw that many of the clips by `seed` and the clip ids alone, so in whatever order they came.
            seed: of the draws, and of `random()` in the query.
            weights: the query's column of weights (finite, above 0), a balance that makes them from the density or the
                clusters of the clips as pinned, or weights per value of a column of clips; default: 1 each.
            limit_per: first draw at most so many clips per value of a column, in the same way.
            distinct: leave out near duplicates before that; see `snapshot_query.Draw`.

        Raises:
            StoreError: the name is taken, or the query returns something else.
        """
        check_name(name)
        with self.store.committing("snapshots"):  # clean-up waits for this lock, so the versions stay until tagged
            versions = {table: self.store.dataset(table).version for table in PINNED}
            if self._find(name) is not None:
                raise StoreError(f"snapshot {name} exists, and snapshots never change; choose another name.")
            draw = Draw(limit, seed, limit_per, distinct)
            chosen = snapshot_query.choose(self.store, sql, versions, draw, weights=weights)
            rows, column = chosen.rows, weights if isinstance(weights, str) else None
            snapshot = Snapshot(
                name, sql, limit, seed, column, rows.num_rows, content_hash(rows), f"snapshot-{name}",
                versions["clips"], versions["media"], versions["sources"], chosen.fingerprints, datetime.now(UTC),
                chosen.balance, asdict(limit_per) if limit_per else None, chosen.distinct,
            )  # fmt: skip
            self._commit(snapshot, rows)
        return snapshot

    def review(self, name: str, heaviest: int = 10) -> WeightReview | None:
        """Return the effective size of a snapshot's weights and its heaviest clips; None where all weigh the same."""
        return review(self.store, name, self.show(name).clips_version, heaviest)

    def uses(self, name: str) -> list[Use]:
        """Find the runs that `name` was given to since it was made, oldest first."""
        made = self.show(name).created_at
        rows = self.store.read("runs", ["command", "counts", "started_at"]).sort_by("started_at").to_pylist()
        found = [(row, json.loads(row["counts"] or "{}")) for row in rows if row["started_at"] >= made]
        return [
            Use(row["command"], row["started_at"], counts.get("folder") or "")
            for row, counts in found
            if name in (counts.get("snapshot"), *counts.get("snapshots", ()))
        ]

    def delete(self, name: str) -> None:
        """Forget a snapshot and let go of the versions that it pinned; `cleanup` then frees what nothing else needs.

        Its row goes first: killed after that, there is no snapshot, and the same call removes the rest. Raises
        StoreError if there is neither.
        """
        check_name(name)
        with self.store.committing("snapshots"):
            tag, rows = f"snapshot-{name}", f"snapshot = {literal(name)}"
            tagged = [table for table in PINNED if pinned_version(self.store.dataset(table), tag) is not None]
            if not tagged and not self.store.count("snapshot_rows", rows):
                self.show(name)
            self.store.delete("snapshots", f"name = {literal(name)}")
            self.store.delete("snapshot_rows", rows)
            for table in tagged:
                self.store.dataset(table).tags.delete(tag)

    def list(self) -> list[Snapshot]:
        """Return every snapshot, oldest first."""
        rows = self.store.read("snapshots").to_pylist()
        return sorted((Snapshot.from_row(row) for row in rows), key=lambda s: (s.created_at, s.name))

    def show(self, name: str) -> Snapshot:
        """Return one snapshot. Raises StoreError, with names that look alike, if there is none."""
        found = self._find(name)
        if found is None:
            alike = look_alikes(name, [s.name for s in self.list()])
            hint = f"; names that look alike: {', '.join(alike)}" if alike else ""
            raise StoreError(f"there is no snapshot {name!r}{hint}. See: reel snapshot list")
        return found

    def rows(self, name: str) -> pa.Table:
        """Return a snapshot's rows (clip_id, weight, position) in order of position."""
        self.show(name)
        rows = self.store.read("snapshot_rows", ["clip_id", "weight", "position"], f"snapshot = {literal(name)}")
        return rows.sort_by("position")

    def clips(self, name: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield the clips as they were when pinned, with `weight` and `position`, in order, some 2,000 at a time."""
        version = self.show(name).clips_version
        rows = self.rows(name)
        for start in range(0, rows.num_rows, clip_media.LOOKUP_IDS):
            yield snapshot_query.with_clip_columns(
                self.store, rows.slice(start, clip_media.LOOKUP_IDS), columns, clips_version=version
            )

    def clip_batches(self, name: str, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield the clips as they were when pinned, with clip_id and `weight`, in any order and in bounded memory.

        Most of a table's rows are read in two passes over it, a few of them by their ids.
        """
        snapshot = self.show(name)
        clips = self.store.dataset("clips", snapshot.clips_version).count_rows()
        if snapshot.num_clips * SCAN_FROM < clips:
            names = ["clip_id", *columns, "weight"]
            return (batch.select(names) for batch in self.clips(name, columns))
        return snapshot_stream.clip_batches(self.store, name, snapshot.clips_version, columns)

    def clips_table(self, name: str, columns: Sequence[str]) -> pa.Table:
        """Return the clips as they were when pinned, with `weight` and `position`, in order.

        Most of a table's rows are read in one pass over it, a few of them by their ids.
        """
        version, rows = self.show(name).clips_version, self.rows(name)
        clips = self.store.dataset("clips", version).count_rows()
        if 0 < rows.num_rows * SCAN_FROM < clips:
            return pa.concat_tables(self.clips(name, columns))
        return snapshot_query.with_clip_columns(self.store, rows, columns, clips_version=version, whole=True)

    def read_media(self, name: str, clip_ids: Sequence[str] | None = None) -> Iterator[tuple[str, bytes]]:
        """Yield (clip_id, mp4) as pinned: all of the snapshot's, or `clip_ids` alone."""
        ids = self.rows(name).column("clip_id").to_pylist() if clip_ids is None else clip_ids
        return clip_media.read(self.store.dataset("media", self.show(name).media_version), ids)

    def diff(self, a: str, b: str) -> SnapshotDiff:
        """Return the clips that are in one snapshot alone, and clips with another weight, sorted by clip id."""
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

        Args:
            name: of the snapshot.
            media_samples: number of clips, spread over the snapshot, to read whole; None reads every one.
        """
        return check(self.store, self.show(name), self.rows(name), media_samples)

    # --- helpers -------------------------------------------------------------------------------------------------

    def _find(self, name: str) -> Snapshot | None:
        rows = self.store.read("snapshots", filter=f"name = {literal(name)}").to_pylist()
        return Snapshot.from_row(rows[0]) if rows else None

    def _commit(self, snapshot: Snapshot, rows: pa.Table) -> None:
        """Tags, then rows, then the snapshot's own row; leftovers of a killed attempt under the name are replaced."""
        for table in PINNED:
            dataset = self.store.dataset(table)
            tags = dataset.tags
            write = tags.create if pinned_version(dataset, snapshot.tag) is None else tags.update
            write(snapshot.tag, getattr(snapshot, f"{table}_version"))
        if self.store.count("snapshot_rows", f"snapshot = {literal(snapshot.name)}"):
            self.store.delete("snapshot_rows", f"snapshot = {literal(snapshot.name)}")
        names = pa.DictionaryArray.from_arrays(pa.array([0] * rows.num_rows, pa.int32()), [snapshot.name])
        self.store.append("snapshot_rows", rows.append_column("snapshot", names.cast(pa.string())))
        later = [schemas()["snapshots"].field(column) for column in JSON_COLUMNS_ADDED]
        self.store.ensure_columns("snapshots", later)  # a store may be older than they are
        self.store.append("snapshots", [snapshot.as_row()])

    def _weights(self, name: str) -> dict[str, float]:
        rows = self.rows(name)
        return dict(zip(rows.column("clip_id").to_pylist(), rows.column("weight").to_pylist(), strict=True))


def check_name(name: str) -> None:
    """Raise StoreError unless `name` is 1 to 100 letters, digits, `.`, `_` or `-`, the first a letter or digit."""
    if not NAME.fullmatch(name) or ".." in name or name.endswith((".", ".lock")):
        raise StoreError(
            f"{name!r} cannot name a snapshot; use up to 100 letters, digits, '.', '_' and '-', "
            "beginning with a letter or digit, without '..' and without '.' at the end."
        )
