"""Files and folders that are not read, by the hundred million: a bucket may hold a text for each video."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

import pyarrow as pa

from reelwright.curation.ingest.input_list import NUMBERED
from reelwright.curation.ingest.inputs import Skipped, is_unicode
from reelwright.curation.ingest.spool import TEXT, Spool
from reelwright.curation.keys.row_order import rows_in_order

CHUNK, PAIRS = 65_536, 4_096


class SkippedFiles(Collection[Skipped]):
    """Takes them in any order; once `close` is called, they are sorted by path, each once."""

    def __init__(self) -> None:
        self.by_reason = Counter[str]()
        self._numbers: dict[str, int] = {}  # by reason, of which there are few
        self._paths: list[str] = []
        self._reasons: list[int] = []
        self._rows = Spool(NUMBERED)
        self._odd = set[Skipped]()  # with names that are no Unicode, which a column does not hold

    def add(self, path: str, reason: str) -> None:
        """Take one."""
        if not is_unicode(path):
            self._odd.add(Skipped(path, reason))
            return
        self._paths.append(path)
        self._reasons.append(self._numbers.setdefault(reason, len(self._numbers)))
        if len(self._paths) == CHUNK:
            self._flush()

    def close(self) -> None:
        """Take no more."""
        self._flush()
        taken, self._rows = self._rows, Spool(NUMBERED)
        taken.close()
        batches = rows_in_order((rows for _, rows in taken.batches()), NUMBERED, [TEXT])
        names, counts = list(self._numbers), Counter[str](one.reason for one in self._odd)
        for path, same in groupby(_pairs(batches), itemgetter(0)):
            for reason in sorted({names[number] for _, number in same}):
                counts[reason] += 1
                self._paths.append(path)
                self._reasons.append(self._numbers[reason])
                if len(self._paths) == CHUNK:
                    self._flush()
        self._flush()
        self._rows.close()
        self.by_reason = counts

    def __len__(self) -> int:
        return self._rows.count + len(self._odd)

    def __iter__(self) -> Iterator[Skipped]:
        names = list(self._numbers)
        rows = (Skipped(path, names[number]) for path, number in _pairs(rows for _, rows in self._rows.batches()))
        return heapq.merge(rows, sorted(self._odd)) if self._odd else rows

    def __contains__(self, one: Any) -> bool:
        return any(one == known for known in self)

    def _flush(self) -> None:
        columns = [pa.array(self._paths, pa.large_string()), pa.array(self._reasons, pa.int64())]
        self._rows.add(pa.record_batch(columns, schema=NUMBERED))
        self._paths, self._reasons = [], []


def _pairs(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[str, int]]:
    """Yield the rows of NUMBERED batches, some of them in memory at a time."""
    for batch in batches:
        for start in range(0, len(batch), PAIRS):
            yield from zip(*(column.to_pylist() for column in batch.slice(start, PAIRS).columns), strict=True)
