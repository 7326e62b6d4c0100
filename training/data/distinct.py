"""Values of more rows than memory holds, each once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelwright.curation.keys.row_order import rows_in_order
from reelwright.training.data.spool import Spool, forget


def each_once_in_order(parts: Iterable[pa.Array]) -> pa.Array:
    """Return the values of all parts, each once and in order: sorted on disk and mapped where they are many.

    parts: of one type, at least one; texts, or binary of one size; none of them null.
    """
    rest = iter(parts)
    first = next(rest)
    schema = pa.schema([("value", first.type)])
    spool = Spool(schema)
    for batch in _without_repeats(pa.record_batch([part], schema=schema) for part in chain([first], rest)):
        spool.add(batch)
        forget()
    return spool.table().column(0).chunk(0)


def _without_repeats(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield sorted rows without those that are like the one before."""
    rest = iter(batches)
    first = next(rest)
    last = None
    for batch in rows_in_order(chain([first], rest), first.schema, first.schema.names):
        values = batch.column(0)
        if not len(values):
            continue
        differs = np.append(values[0] != last, pc.not_equal(values[1:], values[:-1]).to_numpy(zero_copy_only=False))
        last = values[-1]
        yield batch.take(pa.array(np.flatnonzero(differs)))
