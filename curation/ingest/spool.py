"""Rows by the hundred million, in the order in which they come: in memory while they are few, then in a file."""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

IN_MEMORY = 64 * 2**20  # bytes of rows
TEXT = "text"
TEXTS = pa.schema([(TEXT, pa.large_string())])


class Spool:
    """Takes batches of rows; once `close` is called, they are found by number. The file has no name: it goes with us.

    A batch that was read stays in no memory of ours: its pages are the file's.

    Args:
        schema: of the batches.
    """

    def __init__(self, schema: pa.Schema = TEXTS) -> None:
        self.schema, self.count = schema, 0
        self._held: list[pa.RecordBatch] = []
        self._num_bytes = 0
        self._starts = [0]
        self._file: Any = None
        self._writer: Any = None
        self._map: Any = None
        self._reader: Any = None

    def add(self, rows: pa.RecordBatch | pa.Array) -> None:
        """Take rows; of a schema with one column, the column is enough."""
        if not len(rows):
            return
        batch = rows if isinstance(rows, pa.RecordBatch) else pa.record_batch([rows], schema=self.schema)
        self.count += len(batch)
        self._starts.append(self.count)
        self._held.append(batch)
        self._num_bytes += batch.nbytes
        if self._writer is not None or self._num_bytes > IN_MEMORY:
            self._write()

    def close(self) -> None:
        """Take no more."""
        if self._writer is not None:
            self._writer.close()
            self._file.flush()
            self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
            self._reader = pa.ipc.open_file(pa.py_buffer(self._map))

    def batches(self) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield (number of the first, rows)."""
        for at, start in enumerate(self._starts[:-1]):
            yield start, self.batch(at)
            self.let_go()

    def take(self, numbers: np.ndarray, columns: Sequence[str] | None = None) -> pa.RecordBatch:
        """Return the rows with these numbers, int64 [N]. columns: some of the schema's; default: all."""
        names = self.schema.names if columns is None else list(columns)
        order = np.argsort(numbers, kind="stable")
        batches = np.searchsorted(self._starts, numbers[order], "right") - 1
        pieces = [pa.RecordBatch.from_pylist([], schema=self.schema).select(names)]
        for at, first in zip(*np.unique(batches, return_index=True), strict=True):
            end = np.searchsorted(batches, at, "right")
            rows = pa.array(numbers[order[first:end]] - self._starts[at])
            pieces.append(self.batch(int(at)).select(names).take(rows))
        self.let_go()
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return one_batch(pieces).take(pa.array(back))

    def batch(self, at: int) -> pa.RecordBatch:
        """Return the batch that was taken as number `at`."""
        return self._held[at] if self._reader is None else self._reader.get_batch(at)

    def let_go(self) -> None:
        """Count no page of the file as memory of ours until it is read again."""
        if self._map is not None:
            self._map.madvise(mmap.MADV_DONTNEED)

    def _write(self) -> None:
        if self._writer is None:
            self._file = tempfile.TemporaryFile(prefix="reel-")  # noqa: SIM115 - for as long as it is read
            self._writer = pa.ipc.new_file(self._file, self.schema)
        for batch in self._held:
            self._writer.write_batch(batch)
        self._held = []


class Chain:
    """Spools one after another, closed, with numbers that run through. columns: that all of them have."""

    def __init__(self, spools: Sequence[Spool], columns: Sequence[str]) -> None:
        self._spools, self._columns = spools, list(columns)
        self._starts = np.cumsum([0, *(spool.count for spool in spools)])

    @property
    def count(self) -> int:
        """All numbers are less."""
        return int(self._starts[-1])

    def batches(self) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield (number of the first, rows)."""
        for first, spool in zip(self._starts.tolist(), self._spools, strict=False):
            for start, batch in spool.batches():
                yield first + start, batch.select(self._columns)

    def take(self, numbers: np.ndarray, columns: Sequence[str] | None = None) -> pa.RecordBatch:
        """Return the rows with these numbers, int64 [N]. columns: some of them; default: all."""
        which = np.searchsorted(self._starts, numbers, "right") - 1
        order, pieces = np.argsort(which, kind="stable"), []
        for at, spool in enumerate(self._spools):
            mine = numbers[which == at] - self._starts[at]
            if len(mine) or not at:
                pieces.append(spool.take(mine, columns or self._columns))
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return one_batch(pieces).take(pa.array(back))


def one_batch(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """Return batches of one schema, at least one, as one batch."""
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)
