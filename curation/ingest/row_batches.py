"""Rows of a list by the batch: as columns where somebody takes them so, else one by one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import pyarrow as pa

from reelwright.curation.ingest.address_column import BUFFER_BYTES
from reelwright.curation.ingest.manifest_names import KNOWN
from reelwright.curation.ingest.manifest_rows import Row, column_name, named

ROWS, CHARS = 2048, 4 << 20  # of a text file, in memory at a time
BATCH_ROWS, PIECE_ROWS = 32_768, 2048  # of a Parquet file; where a batch is not taken, its pieces are offered
BATCH_BYTES = 64 << 20

Take = Callable[[Mapping[str, pa.Array], Collection[str]], bool]
"""Is given columns with KNOWN names, at least one, and the names of all; returns whether it takes the rows."""


def untidy(rows: Iterable[Row], take: Take | None) -> Iterator[Row]:
    """Yield the rows that are not taken by the batch."""
    if take is None:
        yield from rows
        return
    for batch in _batches(rows):
        columns = _columns(batch)
        if not columns or not take(columns, {name for row in batch for name in row.values}):
            yield from batch


def parquet_rows(file: BinaryIO, take: Take | None) -> Iterator[Row]:
    """Yield the rows of an open Parquet file that are not taken by the batch."""
    import pyarrow.parquet as pq

    number = 0
    try:
        opened = pq.ParquetFile(file, pre_buffer=False, buffer_size=BUFFER_BYTES)
        names = opened.schema_arrow.names
        read = [name for name in names if column_name(name) in KNOWN]
        others: dict[str, Any] = {column_name(name): None for name in names if read and name not in read}
        for batch in opened.iter_batches(_rows_a_batch(opened.metadata), columns=read or None):
            for piece in _pieces(batch, {*map(column_name, names)}, take):
                for row in piece if isinstance(piece, list) else []:
                    number += 1
                    yield Row(number, others | named(row))
                number += 0 if isinstance(piece, list) else piece
    except pa.ArrowException as error:
        raise ValueError(str(error)) from error


def _pieces(batch: pa.RecordBatch, names: Collection[str], take: Take | None) -> Iterator[list[dict[str, Any]] | int]:
    """Yield in order, of the rows of a batch, how many were taken, or rows that were not."""

    def is_taken(rows: pa.RecordBatch) -> bool:
        columns: dict[str, pa.Array] = {}
        for name, column in zip(rows.schema.names, rows.columns, strict=True):
            columns.setdefault(column_name(name), column)
        known = {name: column for name, column in columns.items() if name in KNOWN}
        return bool(take and known and take(known, names))

    if is_taken(batch):
        yield len(batch)
        return
    for start in range(0, len(batch), PIECE_ROWS):
        piece = batch.slice(start, PIECE_ROWS)
        yield len(piece) if len(batch) > PIECE_ROWS and is_taken(piece) else piece.to_pylist()


def _rows_a_batch(metadata: Any) -> int:
    """Return how many rows have BATCH_BYTES, in the row group with the largest ones."""
    groups = (metadata.row_group(n) for n in range(metadata.num_row_groups))
    largest = max((group.total_byte_size // max(1, group.num_rows) for group in groups), default=0)
    return max(1, min(BATCH_ROWS, BATCH_BYTES // max(1, largest)))


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    batch, chars = list[Row](), 0
    for row in rows:
        batch.append(row)
        chars += row.chars
        if len(batch) >= ROWS or chars > CHARS:
            yield batch
            batch, chars = [], 0
    if batch:
        yield batch


def _columns(rows: Sequence[Row]) -> dict[str, pa.Array] | None:
    """Return rows by the column, those with KNOWN names; None where a column has values of several kinds."""
    if any(row.error or not isinstance(row.values, Mapping) for row in rows):
        return None
    names = {name for row in rows for name in row.values} & KNOWN
    values = {name: [row.values.get(name) for row in rows] for name in names}
    if any(len({*map(type, column)} - {type(None)}) > 1 for column in values.values()):
        return None
    try:
        return {name: pa.array(column) for name, column in values.items()}
    except (pa.ArrowException, ValueError, TypeError, OverflowError):  # text that is not Unicode, say
        return None
