"""A Lance dataset as DuckDB scans it: filters and projections go down to Lance, payload bytes never come up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads

ROW_ID = "_rowid"
SOURCE_COLUMNS = ("uri", "licence", "container", "codec", "rotation", "ingested_at")  # none is in clips


class LanceScan(pads.Dataset):  # DuckDB knows a scannable object by this class
    """Some columns of a Lance dataset, with the row id as a column if `with_row_id`."""

    def __init__(self, dataset: Any, hidden: Sequence[str] = (), *, with_row_id: bool = False) -> None:
        self._dataset = dataset
        fields = [f for f in dataset.schema if f.name not in hidden]
        self._fields = pa.schema(fields + [pa.field(ROW_ID, pa.uint64())] * with_row_id)

    @property
    def schema(self) -> pa.Schema:
        return self._fields

    def scanner(self, columns: Sequence[str] | None = None, filter: Any = None, **options: Any) -> Any:
        names = list(self._fields.names if columns is None else columns)
        try:
            return self._dataset.scanner(columns=names, filter=filter)
        except (ValueError, OSError, NotImplementedError):
            return self._filtered_here(names, filter)

    def _filtered_here(self, names: list[str], filter: Any) -> Any:
        """For a filter that Lance cannot run: Arrow runs it over all columns, since which it reads is not told."""
        everything = self._dataset.scanner(columns=self._fields.names).to_reader()
        return pads.Scanner.from_batches(everything, columns=names, filter=filter)

    def __reduce__(self) -> Any:
        raise TypeError("a LanceScan stays in its process; open the store by its uri instead.")


def create_clips_full(con: Any, suffix: str = "") -> None:
    """The view `clips_full<suffix>`: `clips<suffix>` with columns of their source, of which one row a file is used."""
    of_source = ", ".join(f"s.{column}" for column in SOURCE_COLUMNS)
    con.execute(
        f"CREATE VIEW clips_full{suffix} AS SELECT c.*, {of_source} FROM clips{suffix} c LEFT JOIN "
        "(SELECT DISTINCT ON (md5) * FROM sources WHERE state = 'ok' ORDER BY md5, uri) s ON s.md5 = c.source_md5"
    )
