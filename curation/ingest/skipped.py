"""Files and folders that are not read, by the hundred million: a bucket may hold a text for each video."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa

from reelwright.curation.ingest.input_list import NUMBERED
from reelwright.curation.ingest.inputs import Skipped, is_unicode
from reelwright.curation.ingest.spool import Spool
from reelwright.curation.keys.text_order import in_order

CHUNK = 65_536


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
        batches = ((rows.column(0), np.asarray(rows.column(1))) for _, rows in taken.batches())
        pairs = (pair for texts, numbers in in_order(batches) for pair in zip(texts.to_pylist(), numbers, strict=True))
        names, counts = list(self._numbers), Counter[str](one.reason for one in self._odd)
        for path, same in groupby(pairs, itemgetter(0)):
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
        rows = (
            Skipped(path, names[number])
            for _, batch in self._rows.batches()
            for start in range(0, len(batch), CHUNK // 16)
            for path, number in zip(*(c.to_pylist() for c in batch.slice(start, CHUNK // 16).columns), strict=True)
        )
        return heapq.merge(rows, sorted(self._odd)) if self._odd else rows

    def __contains__(self, one: Any) -> bool:
        return any(one == known for known in self)

    def _flush(self) -> None:
        columns = [pa.array(self._paths, pa.large_string()), pa.array(self._reasons, pa.int64())]
        self._rows.add(pa.record_batch(columns, schema=NUMBERED))
        self._paths, self._reasons = [], []
