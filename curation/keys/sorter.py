"""Records in any order, sorted by key in bounded memory: runs split by the key's first byte, then part by part."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from reelwright.curation.keys.sorted_keys import PARTS, read_records, sort

RUN_BYTES = 4 * 2**20


class Sorter:
    """Takes records, then yields them sorted, once.

    Args:
        kind: of a record; it begins with KEY.
    """

    def __init__(self, kind: np.dtype) -> None:
        self.kind, self.count = kind, 0
        self._held: list[np.ndarray] = []
        self._file: Any = None
        self._runs: list[np.ndarray] = []  # of each run int64 [PARTS + 1], the first record of a part in the file

    def add(self, records: np.ndarray) -> None:
        """Take records."""
        self._held.append(records)
        self.count += len(records)
        if sum(map(len, self._held)) * self.kind.itemsize >= RUN_BYTES:
            self._spill()

    def parts(self) -> Iterator[np.ndarray]:
        """Yield PARTS of the records, by ranges of keys; those with one key stay in the order in which they came."""
        if self._file is None:
            records = sort(np.concatenate([np.zeros(0, self.kind), *self._held]))
            bounds = np.searchsorted(records["upper"], np.arange(1, PARTS, dtype=np.uint64) << np.uint64(56))
            self._held = []
            yield from np.split(records, bounds)
            return
        self._spill()
        for part in range(PARTS):
            pieces = [read_records(self._file, self.kind, run[part], run[part + 1]) for run in self._runs]
            yield sort(np.concatenate(pieces))
        self._file.close()

    def _spill(self) -> None:
        records, self._held = np.concatenate([np.zeros(0, self.kind), *self._held]), []
        parts = (records["upper"] >> np.uint64(56)).astype(np.uint8)
        ends = np.cumsum(np.bincount(parts, minlength=PARTS))
        start = int(self._runs[-1][-1]) if self._runs else 0
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="reel-")  # noqa: SIM115 - closed once all is sorted
        records.take(np.argsort(parts, kind="stable")).tofile(self._file)
        self._file.flush()
        self._runs.append(start + np.append(0, ends))
