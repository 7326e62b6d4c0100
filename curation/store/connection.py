"""`Connection`: the tables of one store by name, on a local disk or an object store.

Anyone may read. One process at a time commits: workers hand it rows, or media fragments that no reader sees until it
commits them. Killing it at any moment leaves a store that opens and holds every committed batch.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc

from reelwright.curation.store import datasets, lock, seen
from reelwright.curation.store.errors import NO_ROOM, StoreError, lance_reason, unknown_name, writing_to
from reelwright.curation.store.fragments import stretches
from reelwright.curation.store.schema import CURATION_LOCK, MARKER, schemas, table_of
from reelwright.curation.store.traffic import totals

SCAN_AHEAD, SCAN_BYTES = 4, 256 * 2**20  # batches decoded, and bytes fetched, before they are asked for


class Connection:
    """Tables by name: reading, appending, merging and deleting rows. `Store` adds the rest.

    Args:
        uri: a local directory or an object store's URI.
        storage_options: for Lance; keys come from the usual environment without them.
    """

    def __init__(self, uri: str, storage_options: dict[str, str] | None = None) -> None:
        self.uri = uri
        self.storage_options = storage_options
        self._handles = threading.local()  # a Lance handle is not for two threads at once: "Already borrowed"

    def __reduce__(self) -> tuple[type[Connection], tuple[str, dict[str, str] | None]]:
        """Send another process the address alone: it opens its own handles."""
        return type(self), (self.uri, self.storage_options)

    @classmethod
    def open(cls, uri: str | Path, *, create: bool = False, storage_options: dict[str, str] | None = None) -> Self:
        """Open the store at a local directory or an object store's URI.

            store = Store.open("demo/store")
            store = Store.open("s3://bucket/store", create=True)

        Args:
            uri: `~` and relative paths are resolved; keys of an object store come from the usual environment.
            create: make the store where there is none, and add the columns that an older one lacks.
            storage_options: handed to Lance, such as the endpoint of an object store.

        Raises:
            StoreError: there is no store at `uri` and `create` is false, or the address cannot be read.
        """
        store = cls(_normal_uri(uri), storage_options)
        if create:
            store._create_missing()
            store.add_missing_columns()
        elif not store._exists(MARKER):
            raise StoreError(f"there is no store at {uri}; make one with `reel curate FOLDER --store {uri}`.")
        return store

    @classmethod
    def exists(cls, uri: str | Path, storage_options: dict[str, str] | None = None) -> bool:
        """Return whether there is a store at `uri`. Raises StoreError where the address cannot be asked."""
        return cls(_normal_uri(uri), storage_options)._exists(MARKER)

    @property
    def path(self) -> Path | None:
        """The store's directory; None on an object store."""
        return None if "://" in self.uri else Path(self.uri)

    def table_uri(self, table: str) -> str:
        """Return the address of the Lance dataset of `table`: any reader of Lance can open it."""
        return f"{self.uri.rstrip('/')}/{table}.lance"

    def dataset(self, table: str, version: int | str | None = None) -> Any:
        """Return the `lance.LanceDataset` of a table.

        Args:
            table: its name.
            version: a version number or tag, at which the handle stays. The default is the newest: that handle is this
                thread's, and moves on with each call.

        Raises:
            StoreError: the store has no such table or version.
        """
        kind = table_of(table)
        opened = self._handles.__dict__
        if table not in opened:
            found = datasets.open_dataset(self.table_uri(table), self.storage_options)
            if found is None and not kind.is_core:  # the store is older than the table
                found = datasets.create_dataset(self.table_uri(table), table, self.storage_options)
            if found is None:
                raise StoreError(f"the store at {self.uri} has lost its table {table}; restore it from a backup.")
            opened[table] = found
            if version is None and found.version >= seen.newest(self.table_uri(table)):
                return found
        dataset = opened[table]
        if version is None:
            opened[table] = datasets.at_newest(dataset)
            return opened[table]
        try:
            return dataset.checkout_version(version)
        except (ValueError, OSError) as error:
            raise StoreError(f"version {version} of {table} is gone; snapshots pin the versions they need.") from error

    def committing(
        self, name: str = CURATION_LOCK, *, wait_s: float = 0.0, is_brief: bool = False
    ) -> AbstractContextManager[None]:
        """Hold the right to commit for a whole run: `with store.committing(): …`. Raises StoreError if another has it.

        Every write takes it for its own length anyway. wait_s: how long another process may have it first.
        is_brief: for one write of seconds, so that whoever wants it meanwhile waits and is not refused.
        """
        if not lock.has_lock(self.uri):
            return contextlib.nullcontext()
        return lock.exclusive(self.uri, name, self.storage_options, wait_s=wait_s, is_brief=is_brief)

    def traffic(self) -> dict[str, int]:
        """Return requests, bytes read and bytes written of this process, to all stores of this kind: remote, or not."""
        return totals(is_remote=self.path is None)

    # --- reading -------------------------------------------------------------------------------------------------

    def schema(self, table: str) -> pa.Schema:
        """Return the Arrow schema of `table` as it is now, with the annotators' columns."""
        return self.dataset(table).schema

    def count(self, table: str, filter: str | None = None) -> int:
        """Return the number of rows of `table` that pass a SQL condition."""
        return self.dataset(table).count_rows(filter=filter)

    def read(
        self,
        table: str,
        columns: Sequence[str] | None = None,
        filter: str | None = None,
        *,
        version: int | str | None = None,
    ) -> pa.Table:
        """Return rows of one table; `sql` is for joins, order and groups.

            sharp = store.read("clips", ["clip_id", "blur_score"], "blur_score > 100")

        Args:
            table: its name.
            columns: default: all but clip bytes and tensors. A column of today that a table or version made earlier
                lacks is null in every row.
            filter: a SQL condition on the table's columns.
            version: a version number or tag; default: the newest.

        Raises:
            StoreError: a table, column or version is not there, or the condition does not work.
        """
        dataset, kind = self.dataset(table, version), table_of(table)
        payload = kind.payload
        absent = {f.name: f for f in datasets.missing_fields(dataset, table)}
        if columns is None:
            columns = [n for n in [*dataset.schema.names, *absent] if n not in payload]
        for name in columns:
            if name not in dataset.schema.names and name not in absent:
                raise unknown_name(name, f"column of {table}", dataset.schema.names, see=f"reel describe {table}")
            if kind.is_media and name in payload:
                raise StoreError(f"{table}.{name} is read by {kind.key}, with {kind.read_by}.")
        there = [n for n in columns if n not in absent]
        try:
            rows = dataset.to_table(columns=there or dataset.schema.names[:1], filter=filter)
            return datasets.with_nulls(rows, columns, absent) if absent else rows
        except (ValueError, OSError) as error:
            raise StoreError(f"the condition {filter!r} on {table} does not work: {lance_reason(error)}.") from error

    def scan(
        self,
        table: str,
        columns: Sequence[str] | Mapping[str, str],
        filter: str | None = None,
        *,
        version: int | str | None = None,
        batch_rows: int = 8_192,
        fragments: Sequence[int] | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a table in its own order, some at a time: for more than fit in memory.

        Args:
            table: its name.
            columns: that it has, none of them payload; or SQL expressions of them, by name.
            filter: a SQL condition on the table's columns.
            version: a version number or tag; default: the newest.
            batch_rows: rows per batch, at most.
            fragments: numbers of those to read, as `stretches` returns them; default: all.
        """
        dataset = self.dataset(table, version)
        scanner = dataset.scanner(
            columns=dict(columns) if isinstance(columns, Mapping) else list(columns), filter=filter,
            batch_size=batch_rows, batch_readahead=SCAN_AHEAD, io_buffer_size=SCAN_BYTES, scan_in_order=True,
            fragments=None if fragments is None else [dataset.get_fragment(number) for number in fragments],
        )  # fmt: skip
        yield from scanner.to_batches()

    def stretches(self, table: str, rows: int, *, version: int | str | None = None) -> list[tuple[int, ...]]:
        """Cut a table into stretches that several processes can `scan`: numbers of fragments, all in the table's order.

        Args:
            table: its name.
            rows: of a stretch, at most; a fragment with more is one by itself.
            version: a version number or tag; default: the newest.
        """
        return stretches(self.dataset(table, version), rows)

    # --- writing: the committing process -------------------------------------------------------------------------

    def append(self, table: str, rows: pa.Table | Sequence[dict[str, Any]]) -> None:
        """Add rows in one commit. Columns not given are null. Raises StoreError for unknown ones."""
        if rows_from := table_of(table).rows_from:
            raise StoreError(f"rows of {table} come from {rows_from}.")
        with self.writing(table) as dataset:
            checked = datasets.to_table(rows, table, dataset.schema)
            if checked.num_rows:
                datasets.append(dataset, checked)
                datasets.keep_index_fresh(self.dataset(table), table)

    def merge(self, table: str, rows: pa.Table, on: str, *, insert: bool = False) -> int:
        """Set the columns of `rows` in the rows that have the same key, and touch no other column.

        Columns the table lacks are added first, with the metadata of their fields. The merged columns are rewritten for
        each fragment (65,536 rows) that is touched, so hand over thousands of rows at a time, in the table's order.

        Args:
            table: its name.
            rows: the key and the columns to set; each key once.
            on: the column that rows are matched by.
            insert: append the rows that match nothing; they are left out otherwise.

        Returns:
            The number of rows updated.
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
        """Add the columns that tables made by an earlier version lack, null in every row; return `table.column`s.

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
        """Forget columns: a change of metadata. Snapshots keep theirs."""
        with self.writing(table) as dataset:
            dataset.drop_columns(list(names))

    def delete(self, table: str, predicate: str) -> int:
        """Delete the rows that match a SQL condition and return their number. Snapshots keep theirs."""
        with self.writing(table) as dataset:
            try:
                return dataset.delete(predicate)["num_deleted_rows"]
            except (ValueError, OSError) as error:
                if NO_ROOM.search(str(error)):
                    raise
                raise StoreError(f"{predicate!r} does not select rows of {table}: {lance_reason(error)}.") from error

    @contextlib.contextmanager
    def writing(self, table: str) -> Iterator[Any]:
        """Yield the dataset of `table` at its newest version, with every column of today and the right to commit."""
        self.dataset(table)  # that it is not there is said before anything is locked
        with writing_to(self.uri), self.committing(table_of(table).lock):
            dataset = self.dataset(table)  # as the last owner of the lock left it
            datasets.add_null_columns(dataset, datasets.missing_fields(dataset, table), table)
            yield dataset
            seen.note(self.table_uri(table), dataset.version)

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

    def _unmatched(self, table: str, rows: pa.Table, on: str) -> pa.Table:
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
    """Refuse a directory that holds anything but a store: a store begins in a new or empty one."""
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
