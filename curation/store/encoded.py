"""Latents and text states: written by workers as uncommitted files, read back by place from many threads.

A place is a row's position in a table at one version, so that a reader looks keys up once and then only fetches.
Tensors of more than 64 KiB are blobs, which Lance reads some three times as fast as a column of bytes; smaller ones
are in the row, as a blob costs a fifth of a millisecond more each.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from reelwright.curation.store import datasets
from reelwright.curation.store import fragments as fragment_files
from reelwright.curation.store.connection import Connection
from reelwright.curation.store.errors import StoreError, lance_reason
from reelwright.curation.store.fragments import INLINE_BYTES
from reelwright.curation.store.schema import table_of

if TYPE_CHECKING:
    import numpy as np

KEYS_AT_A_TIME = 65_536


class Reader:
    """A table at a version, by default the one that it has when the reader is made.

    It serves any thread, and spawned processes. A forked process is refused: Lance's own threads do not survive a fork.
    """

    def __init__(self, store: Connection, table: str, version: int | None = None) -> None:
        self.store, self.table = store, table
        self.version: int = store.dataset(table).version if version is None else version
        self._opened, self._pid = threading.local(), os.getpid()
        _refuse_old(store.schema(table), table)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.store, self.table, self.version)

    def keys(self, columns: Sequence[str], filter: str) -> Iterator[tuple[pa.RecordBatch, np.ndarray]]:
        """Yield columns of the rows that pass a SQL condition, some at a time, and their places (int64), ascending."""
        from reelwright.curation.store.places import Places

        dataset = self._dataset()
        place_of = Places(dataset)
        scanner = dataset.scanner(
            columns=list(columns), filter=filter, with_row_address=True, scan_in_order=True, batch_size=KEYS_AT_A_TIME
        )
        for batch in scanner.to_batches():
            address = batch.column("_rowaddr").to_numpy()
            yield batch.drop_columns(["_rowaddr"]), place_of(address)

    def tensors(self, places: Sequence[int] | np.ndarray, *, inline: bool) -> list[Any]:
        """Return the tensors' bytes (buffers) at `places`, in that order.

        Args:
            places: row numbers.
            inline: whether the tensors are kept in the row (`is_inline`).

        Raises:
            StoreError: the version is gone.
        """
        blob, column = table_of(self.table).payload
        indices = [int(p) for p in places]
        try:
            if inline:
                values = self._dataset().take(indices, columns=[column]).column(0)
                return [value.as_buffer() for value in values]
            return [data for _, data in self._dataset().read_blobs(blob, indices=indices, preserve_order=True)]
        except (OSError, ValueError) as error:
            raise StoreError(
                f"version {self.version} of {self.table} cannot be read any more ({lance_reason(error)}); "
                "was the store cleaned up? Start again to read the newest."
            ) from error

    def _dataset(self) -> Any:
        """Return this thread's handle: a handle is not for two threads at once."""
        if os.getpid() != self._pid:
            raise StoreError("the store cannot be read in a forked process; start the process with 'spawn'.")
        if not hasattr(self._opened, "dataset"):
            self._opened.dataset = self.store.dataset(self.table, self.version)
        return self._opened.dataset


def is_inline(num_bytes: int) -> bool:
    """Return whether a tensor of this size is kept in the row."""
    return num_bytes <= INLINE_BYTES


def write_fragments(store: Connection, table: str, rows: Sequence[dict[str, Any]]) -> str:
    """Write rows to files of `table` without committing them; returns JSON for `Store.commit_encoded`.

    rows: columns of the table, and the tensor's bytes under the name of its blob (`latents`, `states`).
    """
    import lance
    from lance.fragment import write_fragments

    if not rows:
        return "[]"
    schema = store.schema(table)
    _refuse_old(schema, table)
    blob, column = table_of(table).payload
    data = [row[blob] for row in rows]
    plain = [f for f in schema if f.name != blob]
    kept = [
        {**row, "bytes": len(d), column: d if is_inline(len(d)) else None} for row, d in zip(rows, data, strict=True)
    ]
    arrays = {f.name: pa.array([row.get(f.name) for row in kept], f.type) for f in plain}
    arrays[blob] = lance.blob_array([None if is_inline(len(d)) else d for d in data])
    fragments: Any = write_fragments(
        pa.Table.from_arrays([arrays[f.name] for f in schema], schema=schema), store.dataset(table), mode="append",
        data_storage_version=datasets.STORAGE_VERSION, storage_options=store.storage_options,
    )  # fmt: skip
    fragment_files.refuse_short(store.table_uri(table), fragments, map(len, data))
    return json.dumps([fragment.to_json() for fragment in fragments])


def _refuse_old(schema: pa.Schema, table: str) -> None:
    if not {"bytes", *table_of(table).payload} <= set(schema.names):
        raise StoreError(
            f"the table {table} was made by an earlier version of reelwright; "
            f"delete the folder {table}.lance of the store, and run `reel precompute` again."
        )


def _reopen(store: Connection, table: str, version: int) -> Reader:
    reader = Reader.__new__(Reader)
    reader.store, reader.table, reader.version = store, table, version
    reader._opened, reader._pid = threading.local(), os.getpid()
    return reader
