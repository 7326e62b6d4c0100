"""`Store`: the tables of one curation database, on a local disk or an object store.

Anyone may read. One process at a time commits: workers hand it rows, or media fragments that nobody sees until it
commits them. Killing it at any moment leaves a store that opens and holds every committed batch.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from reelwright.curation.store import clip_media, datasets, encoded, lock
from reelwright.curation.store.describe import ColumnInfo, TableInfo, columns_info, table_info
from reelwright.curation.store.errors import NO_ROOM, StoreError, lance_reason, unknown_name, writing_to
from reelwright.curation.store.schema import ADDED_LATER, MARKER, PAYLOAD, schemas

if TYPE_CHECKING:
    from reelwright.curation.store.maintenance import Orphans
    from reelwright.curation.store.snapshots import Snapshots

LOCK_OF = {"snapshots": "snapshots", "snapshot_rows": "snapshots", "latents": "latents", "texts": "latents",
           "runs": "runs"}  # fmt: skip
CURATION_LOCK = "curation"  # every other table's


class Store:
    """Tables by name. Open one with `Store.open`."""

    def __init__(self, uri: str, storage_options: dict[str, str] | None = None) -> None:
        self.uri = uri
        self.storage_options = storage_options
        self._handles = threading.local()  # a Lance handle is not for two threads at once: "Already borrowed"

    def __reduce__(self) -> tuple[type[Store], tuple[str, dict[str, str] | None]]:
        """What another process needs is the address."""
        return Store, (self.uri, self.storage_options)

    @classmethod
    def open(cls, uri: str | Path, *, create: bool = False, storage_options: dict[str, str] | None = None) -> Store:
        """The store at a local directory or an object-store URI (s3://…; keys come from the usual environment).

        Raises StoreError where there is none and `create` is false.
        """
        store = cls(_normal_uri(uri), storage_options)
        if create:
            store._create_missing()
            store.add_missing_columns()
        elif datasets.open_dataset(store.table_uri(MARKER), storage_options) is None:
            raise StoreError(f"there is no store at {uri}; make one with `reel curate FOLDER --store {uri}`.")
        return store

    @classmethod
    def exists(cls, uri: str | Path, storage_options: dict[str, str] | None = None) -> bool:
        """Whether there is a store at `uri`. Raises StoreError where that cannot be told."""
        return cls(_normal_uri(uri), storage_options)._exists(MARKER)

    @property
    def path(self) -> Path | None:
        """The store's directory; None on an object store."""
        return None if "://" in self.uri else Path(self.uri)

    def table_uri(self, table: str) -> str:
        """Where the Lance dataset of `table` is."""
        return f"{self.uri.rstrip('/')}/{table}.lance"

    def dataset(self, table: str, version: int | str | None = None) -> Any:
        """The `lance.LanceDataset` of a table at its newest version, or at a version number or tag.

        The handle of the newest version is this thread's and moves on with each call; one of a version stays there.
        """
        if table not in schemas():
            raise unknown_name(table, "table", schemas(), see="reel tables")
        opened = self._handles.__dict__
        if table not in opened:
            found = datasets.open_dataset(self.table_uri(table), self.storage_options)
            if found is None and table in ADDED_LATER:  # the store is older than the table
                found = datasets.create_dataset(self.table_uri(table), table, self.storage_options)
            if found is None:
                raise StoreError(f"the store at {self.uri} has lost its table {table}; restore it from a backup.")
            opened[table] = found
        dataset = opened[table]
        if version is None:
            dataset.checkout_latest()
            return dataset
        try:
            return dataset.checkout_version(version)
        except (ValueError, OSError) as error:
            raise StoreError(f"version {version} of {table} is gone; snapshots pin the versions they need.") from error

    def committing(self, name: str = CURATION_LOCK) -> AbstractContextManager[None]:
        """Hold the right to commit for a whole run: `with store.committing(): …`. Raises StoreError if another has it.

        Every write takes it for its own length anyway.
        """
        return lock.exclusive(self.path, name) if self.path else contextlib.nullcontext()

    # --- looking -----------------------------------------------------------------------------------------------

    def tables(self) -> list[TableInfo]:
        """Every table with its rows, version and bytes."""
        return [table_info(self.dataset(name), name) for name in sorted(schemas())]

    def describe(self, table: str) -> list[ColumnInfo]:
        """What each column of `table` means, who computed it with which fingerprints, and how many values are null."""
        return columns_info(self.dataset(table), table)

    def schema(self, table: str) -> pa.Schema:
        """Arrow schema of `table` as it is now, with the annotators' columns."""
        return self.dataset(table).schema

    def count(self, table: str, filter: str | None = None) -> int:
        """Rows of `table` that pass a SQL condition."""
        return self.dataset(table).count_rows(filter=filter)

    def read(
        self,
        table: str,
        columns: Sequence[str] | None = None,
        filter: str | None = None,
        *,
        version: int | str | None = None,
    ) -> pa.Table:
        """Rows of `table`: those columns (default: all but clip bytes and tensors) that pass a SQL condition.

        A column of today that a table or version made earlier lacks is null in every row.
        """
        dataset = self.dataset(table, version)
        absent = {f.name: f for f in datasets.missing_fields(dataset, table)}
        if columns is None:
            columns = [n for n in [*dataset.schema.names, *absent] if n not in PAYLOAD.get(table, ())]
        for name in columns:
            if name not in dataset.schema.names and name not in absent:
                raise unknown_name(name, f"column of {table}", dataset.schema.names, see=f"reel describe {table}")
            if table == "media" and name in PAYLOAD["media"]:
                raise StoreError(f"media.{name} is read by clip id, with Store.read_media(clip_ids).")
        there = [n for n in columns if n not in absent]
        try:
            rows = dataset.to_table(columns=there or dataset.schema.names[:1], filter=filter)
            return datasets.with_nulls(rows, columns, absent) if absent else rows
        except (ValueError, OSError) as error:
            raise StoreError(
                f"the condition {filter!r} on {table} does not work: {lance_reason(error)}."
            ) from error

    # --- writing: the committing process -------------------------------------------------------------------------

    def append(self, table: str, rows: pa.Table | Sequence[dict[str, Any]]) -> None:
        """Add rows, in one commit. Columns not given are null; unknown ones raise StoreError."""
        if table == "media":
            raise StoreError("media rows come from Store.write_media; commit them with Store.commit_media.")
        if table == "journal":
            raise StoreError("rows of journal come from reelwright.curation.store.journal.Journal.")
        if table in PAYLOAD:
            raise StoreError(f"rows of {table} come from Store.write_encoded; commit them with Store.commit_encoded.")
        with self.writing(table) as dataset:
            checked = datasets.to_table(rows, table, dataset.schema)
            if checked.num_rows:
                datasets.append(dataset, checked)
                datasets.keep_index_fresh(self.dataset(table), table)

    def merge(self, table: str, rows: pa.Table, on: str, *, insert: bool = False) -> int:
        """Set the columns of `rows` where `on` matches and touch no other column; returns the rows updated.

        Columns the table lacks are added first, with the metadata of their fields. A row that matches nothing is left
        out, or appended with `insert`. It rewrites the merged columns for each fragment (65,536 rows) it touches, so
        hand it thousands of rows at a time, in the table's order.
        """
        datasets.refuse_repeats(rows, on, table)
        with self.writing(table):
            self.ensure_columns(table, list(rows.schema))
            dataset = self.dataset(table)
            some = pa.schema([dataset.schema.field(name) for name in rows.schema.names])
            checked = datasets.cast_all(rows, some, table)
            updated = datasets.update_columns(dataset, checked, on) if checked.num_rows else 0
            if insert and updated < checked.num_rows:
                self.append(table, self._unmatched(table, checked, on))
            return updated

    def ensure_columns(self, table: str, fields: Sequence[pa.Field]) -> None:
        """Add columns that are missing, null in every row: a change of metadata, no data is rewritten."""
        with self.writing(table) as dataset:
            datasets.add_null_columns(dataset, fields, table)

    def add_missing_columns(self) -> list[str]:
        """Add the columns that tables made by an earlier version lack, null in every row; returns `table.column`s.

        `Store.open(create=True)` does it, and each write for its own table: reading alone changes no store.
        """
        added: list[str] = []
        for table in schemas():
            fields = datasets.missing_fields(self.dataset(table), table)
            if fields:
                with self.writing(table):
                    added += [f"{table}.{f.name}" for f in fields]
        return added

    def drop_columns(self, table: str, names: Sequence[str]) -> None:
        """Forget columns; a change of metadata. Snapshots keep theirs."""
        with self.writing(table) as dataset:
            dataset.drop_columns(list(names))

    def delete(self, table: str, predicate: str) -> int:
        """Delete the rows that match a SQL condition; snapshots keep theirs. Returns how many."""
        with self.writing(table) as dataset:
            try:
                return dataset.delete(predicate)["num_deleted_rows"]
            except (ValueError, OSError) as error:
                if NO_ROOM.search(str(error)):
                    raise
                raise StoreError(
                    f"{predicate!r} does not select rows of {table}: {lance_reason(error)}."
                ) from error

    # --- clip bytes ----------------------------------------------------------------------------------------------

    def write_media(self, clip_ids: Sequence[str], mp4s: Sequence[bytes]) -> str:
        """On a worker: write clips to files that nobody sees yet. Returns JSON to hand to the committing process.

        Needs nothing but the uri: `Store(uri).write_media(…)` works without opening a table.
        """
        with writing_to(self.uri):
            return clip_media.write_fragments(self.table_uri("media"), clip_ids, mp4s, self.storage_options)

    def commit_media(self, fragments: Iterable[str]) -> None:
        """In the committing process: make what workers wrote part of the store, in one commit."""
        with self.writing("media") as dataset:
            clip_media.commit(dataset, fragments)
            datasets.keep_index_fresh(self.dataset("media"), "media")

    def read_media(
        self,
        clip_ids: Iterable[str],
        batch_bytes: int = clip_media.BATCH_BYTES,
        *,
        version: int | str | None = None,
    ) -> Iterator[tuple[str, bytes]]:
        """(clip_id, mp4) in the order asked for, about `batch_bytes` in memory at a time."""
        return clip_media.read(self.dataset("media", version), clip_ids, batch_bytes)

    # --- latents and text states ---------------------------------------------------------------------------------

    def write_encoded(self, table: str, rows: Sequence[dict[str, Any]]) -> str:
        """On a worker: write rows of `latents` or `texts` to files that nobody sees yet. Returns JSON for
        `commit_encoded`."""
        return encoded.write_fragments(self, table, rows)

    def commit_encoded(self, table: str, fragments: Iterable[str]) -> None:
        """In the committing process: make what workers wrote part of `table`, in one commit."""
        with self.writing(table) as dataset:
            clip_media.commit(dataset, fragments)

    def merge_encoded(self) -> None:
        """Merge the small files of many workers where that makes reading faster."""
        from reelwright.curation.store import maintenance

        maintenance.merge_encoded(self)

    def reader(self, table: str) -> encoded.Reader:
        """`table` as it is now, for reading rows by place from many threads."""
        return encoded.Reader(self, table)

    # --- SQL, snapshots, upkeep: each in its own file ------------------------------------------------------------

    def sql(self, query: str, *, params: Any = None, read_only: bool = True) -> pa.Table:
        """Run DuckDB SQL over the tables; see `sql_stream`."""
        return self.sql_stream(query, params=params, read_only=read_only).read_all()

    def sql_stream(self, query: str, *, params: Any = None, read_only: bool = True) -> pa.RecordBatchReader:
        """Run DuckDB SQL over the tables and the views `clips_full` and `failures_latest`.

        read_only allows one SELECT. For SQL from somebody else, see `reelwright.curation.store.sql_untrusted`.
        """
        from reelwright.curation.store import sql

        return sql.stream(self, query, params=params, read_only=read_only)

    def nearest(
        self, table: str, column: str, vector: Any, k: int, *, where: str | None = None,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:  # fmt: skip
        """The `k` rows nearest to a vector by cosine distance, nearest first; see `curation.store.vectors.nearest`."""
        from reelwright.curation.store import vectors

        return vectors.nearest(self, table, column, vector, k, where=where, columns=columns)

    def index_vectors(self, table: str, column: str) -> bool:
        """Index a column of vectors where that pays; see `reelwright.curation.store.vectors.index_vectors`."""
        from reelwright.curation.store import vectors

        return vectors.index_vectors(self, table, column)

    @property
    def snapshots(self) -> Snapshots:
        """Frozen, named sets of clips."""
        from reelwright.curation.store.snapshots import Snapshots

        return Snapshots(self)

    def orphans(self) -> Orphans:
        """What a crash left behind: rows whose source never became ok."""
        from reelwright.curation.store import maintenance

        return maintenance.orphans(self)

    def remove_orphans(self) -> Orphans:
        """Delete what `orphans` finds. Call it when a run begins: during one, open batches look like orphans."""
        from reelwright.curation.store import maintenance

        return maintenance.remove_orphans(self)

    def compact(self) -> None:
        """Merge small files of every table but media, whose bytes move only where most rows were deleted."""
        from reelwright.curation.store import maintenance

        maintenance.compact(self)

    def merge_small_files(self) -> list[str]:
        """What `compact` does, for the tables that a run of curation appends to, where they have very many small files;
        returns their names."""
        from reelwright.curation.store import small_files

        return small_files.merge_small_files(self)

    def cleanup(self, older_than: timedelta = timedelta(days=7)) -> int:
        """Delete versions that no snapshot pins and files no version has; returns bytes freed."""
        from reelwright.curation.store import maintenance

        return maintenance.cleanup(self, older_than)

    # --- helpers -------------------------------------------------------------------------------------------------

    def _create_missing(self) -> None:
        if self.path is not None:
            _refuse_foreign(self.path)
        if all(self._exists(name) for name in schemas()):
            return
        with self.committing():
            for name in schemas():
                if not self._exists(name):
                    datasets.create_dataset(self.table_uri(name), name, self.storage_options)

    def _exists(self, table: str) -> bool:
        return datasets.open_dataset(self.table_uri(table), self.storage_options) is not None

    @contextlib.contextmanager
    def writing(self, table: str) -> Iterator[Any]:
        """The dataset of `table` at its newest version, with every column of today and the right to commit to it."""
        dataset = self.dataset(table)
        with writing_to(self.uri), self.committing(LOCK_OF.get(table, CURATION_LOCK)):
            dataset.checkout_latest()
            datasets.add_null_columns(dataset, datasets.missing_fields(dataset, table), table)
            yield dataset

    def _unmatched(self, table: str, rows: pa.Table, on: str) -> pa.Table:
        import pyarrow.compute as pc

        have = self.read(table, [on]).column(on)
        return rows.filter(pc.invert(pc.is_in(rows.column(on), value_set=have)))


def _normal_uri(uri: str | Path) -> str:
    text = os.fspath(uri)
    if text.startswith("file://"):
        text = text.removeprefix("file://")
    if "://" in text and not text.rstrip("/").partition("://")[2]:
        raise StoreError(f"{text} names no bucket or folder; an address looks like s3://bucket/folder.")
    return text.rstrip("/") if "://" in text else os.path.abspath(os.path.expanduser(text))


def _refuse_foreign(path: Path) -> None:
    """A store is made in a new or empty directory, or completed where one was begun."""
    if path.exists() and not path.is_dir():
        raise StoreError(f"{path} is a file; give --store a directory.")
    try:
        path.mkdir(parents=True, exist_ok=True)
        entries = [p.name for p in path.iterdir()]
    except (OSError, ValueError) as error:
        raise StoreError(
            f"cannot make a store at {path}: {getattr(error, 'strerror', error)}; choose a directory you can write."
        ) from error
    if entries and not any(name.endswith(".lance") or name == lock.FOLDER for name in entries):
        raise StoreError(f"{path} holds other files ({entries[0]}, …); give --store a new or empty directory.")
