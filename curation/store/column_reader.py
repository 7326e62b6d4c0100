"""Whole columns of a table in the table's own order, and a signature by which a cached copy is known to be fresh.

A page that filters a million clips while a slider moves cannot scan files each time: it holds columns in memory. A
column's signature names the files that hold it, so that a merge of one column leaves the copies of all others good.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from reelwright.curation.store.connection import Connection
from reelwright.curation.store.sql_views import ROW_ID

Signature = tuple[Any, ...]


class ColumnReader:
    """The columns of one version of a table.

    Args:
        store: to read.
        table: its name.
    """

    def __init__(self, store: Connection, table: str) -> None:
        self._store, self._table = store, table
        self.version: int = store.dataset(table).version
        self._dataset = store.dataset(table, self.version)
        self.schema: pa.Schema = self._dataset.schema
        self._fragments = [
            (f.fragment_id, str(f.metadata.deletion_file), [(d.path, tuple(d.fields)) for d in f.data_files()])
            for f in self._dataset.get_fragments()
        ]
        self.rows: Signature = tuple(
            (number, deleted, files[0][0] if files else "") for number, deleted, files in self._fragments
        )
        """Changes where rows are added, deleted or moved."""
        self._ids = {f.name(): set(_numbers(f)) for f in self._dataset.lance_schema.fields()}

    def signature(self, column: str) -> Signature:
        """Return a value that changes whenever the column's values, or the table's rows, may have changed."""
        numbers = self._ids.get(column, set())
        files = tuple(path for _, _, there in self._fragments for path, fields in there if numbers.intersection(fields))
        return (tuple((n, deleted) for n, deleted, _ in self._fragments), files)

    def row_ids(self) -> pa.Array:
        """Return the stable id of each row, uint64 [N]."""
        return self._dataset.to_table(columns=[], with_row_id=True).column(ROW_ID).combine_chunks()

    def column(self, name: str) -> pa.ChunkedArray:
        """Return a column, one value per row, in the order of `row_ids`."""
        return self._dataset.to_table(columns=[name]).column(0)

    def take(self, row_ids: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """Return some columns of the rows with these ids, in their order."""
        if not row_ids:
            return self._dataset.schema.empty_table().select(list(columns))
        return self._dataset._take_rows(list(row_ids), columns=list(columns))


def _numbers(field: Any) -> Iterator[int]:
    """Yield Lance's numbers of a field and of all inside it: a file of a list names what the list holds."""
    yield field.id()
    for child in field.children():
        yield from _numbers(child)
