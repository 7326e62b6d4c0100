"""A snapshot's clips some at a time, for more than memory holds: joined by number on disk, then read in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from reelwright.curation.keys.scratch import duckdb_on_disk
from reelwright.curation.store import datasets
from reelwright.curation.store.connection import Connection
from reelwright.curation.store.sql_text import literal

BATCH_ROWS = 32_768
MEMORY_LIMIT = "256MB"  # of the join
NOWHERE = 1 << 62
"""Number of a row whose clip is gone."""
OWN = pa.schema([("clip_id", pa.large_string()), ("weight", pa.float64())])
JOINED = pa.schema([("number", pa.int64()), ("weight", pa.float64()), ("clip_id", pa.string())])
NUMBERED = pa.schema([("clip_id", pa.large_string()), ("number", pa.int64())])


def clip_batches(store: Connection, name: str, version: int, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Yield a snapshot's clips in the table's order, with clip_id and weight.

    Args:
        store: that holds them.
        name: of the snapshot.
        version: of clips that it pins.
        columns: of clips; null where the table is older than they are, or the clip is gone.
    """
    dataset = store.dataset("clips", version)
    absent = {field.name: field for field in datasets.missing_fields(dataset, "clips")}
    names = ["clip_id", *columns]
    wanted, first, schema = _Rows(_joined(store, name, version)), 0, dataset.schema
    there = [one for one in names if one not in absent]
    for batch in store.scan("clips", there, version=version, batch_rows=BATCH_ROWS):
        rows = wanted.until(first + len(batch))
        if len(rows):
            table = pa.Table.from_batches([batch]).take(pa.array(rows.column("number").to_numpy() - first))
            table = datasets.with_nulls(table, names, absent) if absent else table
            yield table.append_column("weight", rows.column("weight"))
        first += len(batch)
    while len(rows := wanted.until(NOWHERE + 1, BATCH_ROWS)):
        empty = [pa.nulls(len(rows), (absent.get(one) or schema.field(one)).type) for one in columns]
        ids = rows.column("clip_id").cast(schema.field("clip_id").type)
        yield pa.table([ids, *empty, rows.column("weight")], names=[*names, "weight"])


class _Rows:
    """Rows by `number`, ascending, taken from the first on."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self._held: pa.RecordBatch | None = None

    def until(self, number: int, most: int | None = None) -> pa.Table:
        """Take the rows below a number, about `most` of them at most."""
        parts = list[pa.RecordBatch]()
        while most is None or sum(len(part) for part in parts) < most:
            if not self._held:
                self._held = next(self._batches, None)
                if self._held is None:
                    break
            cut = int(np.searchsorted(self._held.column("number").to_numpy(), number))
            parts.append(self._held.slice(0, cut))
            if cut < len(self._held):
                self._held = self._held.slice(cut)
                break
            self._held = None
        return pa.Table.from_batches(parts, JOINED)


def _joined(store: Connection, name: str, version: int) -> Iterator[pa.RecordBatch]:
    """Yield number and weight of the snapshot's clips, by their place in the table; of one that is gone the id, too."""
    own = store.scan("snapshot_rows", ["clip_id", "weight"], f"snapshot = {literal(name)}", batch_rows=BATCH_ROWS)
    with duckdb_on_disk(MEMORY_LIMIT, "reel-join-") as con:
        con.register("own", pa.RecordBatchReader.from_batches(OWN, (batch.cast(OWN) for batch in own)))
        con.register("clips", pa.RecordBatchReader.from_batches(NUMBERED, _numbered(store, version)))
        found = con.sql(
            f"SELECT coalesce(number, {NOWHERE}) AS number, weight, "
            "CASE WHEN number IS NULL THEN own.clip_id END AS clip_id "
            "FROM own LEFT JOIN clips USING (clip_id) ORDER BY 1"
        )
        for batch in found.to_arrow_reader(BATCH_ROWS):
            yield batch.cast(JOINED)


def _numbered(store: Connection, version: int) -> Iterator[pa.RecordBatch]:
    first = 0
    for batch in store.scan("clips", ["clip_id"], version=version, batch_rows=BATCH_ROWS):
        numbers = pa.array(np.arange(first, first + len(batch)))
        yield pa.record_batch([batch.column(0).cast(pa.large_string()), numbers], schema=NUMBERED)
        first += len(batch)
