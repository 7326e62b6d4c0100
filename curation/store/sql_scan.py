"""A Lance dataset as DuckDB scans it: filters and projections go down to Lance, payload bytes never come up.

Import it where a query runs: pyarrow.dataset loads pandas, a third of a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads

from reelwright.curation.store import datasets
from reelwright.curation.store.sql_views import ROW_ID


class LanceScan(pads.Dataset):  # DuckDB knows a scannable object by this class
    """Some columns of a Lance dataset, with the row id as a column if `with_row_id`.

    absent: columns that the dataset, made by an earlier version, lacks: null in every row.
    """

    def __init__(
        self, dataset: Any, hidden: Sequence[str] = (), *, with_row_id: bool = False, absent: Sequence[pa.Field] = ()
    ) -> None:
        self._dataset = dataset
        self._absent = {f.name: f for f in absent}
        fields = [f for f in dataset.schema if f.name not in hidden]
        self._there = [f.name for f in fields] + [ROW_ID] * with_row_id
        self._fields = pa.schema(fields + [pa.field(ROW_ID, pa.uint64())] * with_row_id + list(absent))

    @property
    def schema(self) -> pa.Schema:
        """Columns of the table, also the columns that are absent from this version."""
        return self._fields

    def scanner(self, columns: Sequence[str] | None = None, filter: Any = None, **options: Any) -> Any:
        """Return a Lance scanner over `columns` under `filter`, or an Arrow one where columns are absent."""
        names = list(self._fields.names if columns is None else columns)
        try:
            if self._absent.keys() & names:
                there = [n for n in names if n not in self._absent]
                return pads.Scanner.from_batches(self._with_absent(there or self._there[:1], names, filter))
            return self._dataset.scanner(columns=names, filter=filter)
        except (ValueError, OSError, NotImplementedError):
            return self._filtered_here(names, filter)

    def _filtered_here(self, names: list[str], filter: Any) -> Any:
        """For a filter that Lance cannot run: Arrow runs it over all columns, since it does not say which it reads."""
        everything = self._with_absent(self._there, self._fields.names, None)
        return pads.Scanner.from_batches(everything, columns=names, filter=filter)

    def _with_absent(self, there: list[str], names: list[str], filter: Any) -> pa.RecordBatchReader:
        reader = self._dataset.scanner(columns=there, filter=filter).to_reader()
        if not self._absent.keys() & names:
            return reader
        empty = datasets.with_nulls(reader.schema.empty_table(), names, self._absent)
        batches = (datasets.with_nulls(batch, names, self._absent) for batch in reader)
        return pa.RecordBatchReader.from_batches(empty.schema, batches)

    def __reduce__(self) -> Any:
        raise TypeError("a LanceScan stays in its process; open the store by its uri instead.")
