"""Texts in order, with their numbers: sorted in memory where they fit, else in runs on disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelwright.curation.keys.scratch import duckdb_on_disk

IN_MEMORY = 256 * 2**20  # bytes of texts
MEMORY_LIMIT = "512MB"  # of the sort on disk
BATCH_ROWS = 65_536
SCHEMA = pa.schema([("text", pa.large_string()), ("number", pa.int64())])

Numbered = tuple[pa.Array, np.ndarray]


def in_order(batches: Iterable[Numbered]) -> Iterator[Numbered]:
    """Yield texts by their code points, each with its number, int64 [N], in batches."""
    held, num_bytes, rest = list[Numbered](), 0, iter(batches)
    for batch in rest:
        held.append(batch)
        num_bytes += batch[0].nbytes
        if num_bytes > IN_MEMORY:
            yield from _on_disk(held, rest)
            return
    if held:
        texts = pa.chunked_array([texts for texts, _ in held], pa.large_string())
        order = pc.sort_indices(texts)
        numbers = np.concatenate([numbers for _, numbers in held])
        yield texts.take(order).combine_chunks(), numbers[order.to_numpy()]


def _on_disk(held: list[Numbered], rest: Iterable[Numbered]) -> Iterator[Numbered]:
    def all_of_them() -> Iterator[pa.RecordBatch]:
        while held:
            yield _batch(held.pop(0))
        yield from map(_batch, rest)

    with duckdb_on_disk(MEMORY_LIMIT, "reel-sort-") as con:
        con.register("texts", pa.RecordBatchReader.from_batches(SCHEMA, all_of_them()))
        for batch in con.sql("SELECT text, number FROM texts ORDER BY text").to_arrow_reader(BATCH_ROWS):
            yield batch.column(0).cast(pa.large_string()), batch.column(1).to_numpy()


def _batch(numbered: Numbered) -> pa.RecordBatch:
    return pa.record_batch([numbered[0], pa.array(numbered[1])], schema=SCHEMA)
