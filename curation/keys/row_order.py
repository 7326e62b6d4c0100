"""Rows in the order of some columns: sorted in memory where they fit, else in runs on disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa

from reelwright.curation.keys.scratch import duckdb_on_disk

IN_MEMORY = 64 * 2**20  # bytes of rows
MEMORY_LIMIT = "256MB"  # of the sort on disk
BATCH_ROWS = 65_536


def rows_in_order(batches: Iterable[pa.RecordBatch], schema: pa.Schema, by: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield all rows of batches, sorted; texts by their code points. Rows that are equal in `by` come in any order.

    Args:
        batches: of `schema`.
        schema: of the rows.
        by: columns of text or numbers, none of them null.
    """
    held, num_bytes, rest = list[pa.RecordBatch](), 0, iter(batches)
    for batch in rest:
        held.append(batch)
        num_bytes += batch.nbytes
        if num_bytes > IN_MEMORY:
            yield from _on_disk(held, rest, schema, by)
            return
    rows = pa.Table.from_batches(held, schema).sort_by([(name, "ascending") for name in by])
    yield from rows.combine_chunks().to_batches(BATCH_ROWS)


def _on_disk(
    held: list[pa.RecordBatch], rest: Iterable[pa.RecordBatch], schema: pa.Schema, by: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    def all_of_them() -> Iterator[pa.RecordBatch]:
        while held:
            yield held.pop(0)
        yield from rest

    with duckdb_on_disk(MEMORY_LIMIT, "reel-sort-") as con:
        con.register("given", pa.RecordBatchReader.from_batches(schema, all_of_them()))
        order = ", ".join(f'"{name}"' for name in by)
        for batch in con.sql(f"SELECT * FROM given ORDER BY {order}").to_arrow_reader(BATCH_ROWS):
            # DuckDB knows no binary of one size, and one kind of text.
            columns = [column.cast(field.type) for column, field in zip(batch.columns, schema, strict=True)]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)
