"""Texts by the hundred million, in the order in which they come: in memory while they are few, then in a file."""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

IN_MEMORY = 64 * 2**20  # bytes of texts
SCHEMA = pa.schema([("text", pa.large_string())])


class Spool:
    """Takes batches of texts; once `close` is called, they are found by number. The file has no name: it goes with us.

    A batch that was read stays in no memory of ours: its pages are the file's.
    """

    def __init__(self) -> None:
        self.count = 0
        self._held: list[pa.Array] = []
        self._starts = [0]
        self._file: Any = None
        self._writer: Any = None
        self._reader: Any = None

    def add(self, texts: pa.Array) -> None:
        """Take texts, large_string [N]."""
        if not len(texts):
            return
        self.count += len(texts)
        self._starts.append(self.count)
        self._held.append(texts)
        if self._writer is not None or sum(piece.nbytes for piece in self._held) > IN_MEMORY:
            self._write()

    def close(self) -> None:
        """Take no more."""
        if self._writer is not None:
            self._writer.close()
            self._file.flush()
            whole = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
            self._reader = pa.ipc.open_file(pa.py_buffer(whole))

    def batches(self) -> Iterator[tuple[int, pa.Array]]:
        """Yield (number of the first, texts)."""
        for at, start in enumerate(self._starts[:-1]):
            yield start, self._batch(at)

    def take(self, numbers: np.ndarray) -> pa.Array:
        """Return the texts with these numbers, int64 [N]."""
        order = np.argsort(numbers, kind="stable")
        batches = np.searchsorted(self._starts, numbers[order], "right") - 1
        pieces = []
        for at, first in zip(*np.unique(batches, return_index=True), strict=True):
            end = np.searchsorted(batches, at, "right")
            pieces.append(self._batch(int(at)).take(pa.array(numbers[order[first:end]] - self._starts[at])))
        found = pa.chunked_array(pieces, pa.large_string()).combine_chunks()
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return found.take(pa.array(back))

    def _batch(self, at: int) -> pa.Array:
        return self._held[at] if self._reader is None else self._reader.get_batch(at).column(0)

    def _write(self) -> None:
        if self._writer is None:
            self._file = tempfile.TemporaryFile(prefix="reel-")  # noqa: SIM115 - for as long as it is read
            self._writer = pa.ipc.new_file(self._file, SCHEMA)
        for piece in self._held:
            self._writer.write_batch(pa.record_batch([piece], schema=SCHEMA))
        self._held = []
