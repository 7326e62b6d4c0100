"""Rows that share their file with others, split by ranges of keys on disk, and joined range by range."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from reelwright.curation.ingest.joining import join_rows
from reelwright.curation.ingest.spool import TEXT, Spool, one_batch
from reelwright.curation.ingest.told import TOLD
from reelwright.curation.keys.hashing import Hasher
from reelwright.curation.keys.sorted_keys import KEY, PARTS, begins

RUN_BYTES = 32 * 2**20
KEYED = pa.schema([*TOLD, *((half, pa.uint64()) for half, _ in KEY)])


class SameFiles:
    """Takes rows in the order in which they were read; yields one row for each file."""

    def __init__(self) -> None:
        self._hash = Hasher()
        self._held: list[pa.RecordBatch] = []
        self._num_bytes = 0
        self._runs = Spool(KEYED)
        self._bounds: list[np.ndarray] = []  # of each run int64 [PARTS + 1], the first row of a range

    def add(self, rows: pa.RecordBatch) -> None:
        """Take rows, TOLD."""
        if not len(rows):
            return
        keys = map(pa.array, self._hash(rows.column(TEXT)))
        self._held.append(pa.record_batch([*rows.columns, *keys], schema=KEYED))
        self._num_bytes += rows.nbytes
        if self._num_bytes > RUN_BYTES:
            self._close_run()

    def joined(self, also: list[np.ndarray]) -> Iterator[pa.RecordBatch]:
        """Yield TOLD by key. also: bool, of each range's files, whether another row asks for the whole file."""
        self._close_run()
        self._runs.close()
        for part, asks in enumerate(also):
            if not len(asks):
                continue
            runs = (self._runs.batch(n).slice(b[part], b[part + 1] - b[part]) for n, b in enumerate(self._bounds))
            rows = one_batch([*runs])
            upper, lower = (np.asarray(rows.column(half)) for half, _ in KEY)
            order = np.lexsort((lower, upper))
            keys = np.empty(len(order), KEY)
            keys["upper"], keys["lower"] = upper[order], lower[order]
            rows = rows.select(TOLD.names).take(pa.array(order))
            self._runs.let_go()
            yield join_rows(rows, np.cumsum(begins(keys)) - 1, asks, self._hash)

    def _close_run(self) -> None:
        if not self._held:
            return
        rows, self._held, self._num_bytes = one_batch(self._held), [], 0
        parts = (np.asarray(rows.column("upper")) >> np.uint64(56)).astype(np.uint8)
        self._bounds.append(np.append(0, np.cumsum(np.bincount(parts, minlength=PARTS))))
        self._runs.add(rows.take(pa.array(np.argsort(parts, kind="stable"))))
