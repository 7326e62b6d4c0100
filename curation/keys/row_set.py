"""Sets of row ids, which come in long runs: ranges, a few bytes for a million rows."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

JOINED = 1024
"""Sets that are held apart at most, before they are joined."""


class RowSet:
    """Numbers in ranges. starts, ends: int64 [R], ascending; ranges [start, end) that do not touch."""

    def __init__(self, starts: np.ndarray, ends: np.ndarray) -> None:
        self.starts, self.ends = starts, ends

    @classmethod
    def of(cls, numbers: np.ndarray) -> RowSet:
        """Return the set of some numbers, in any order."""
        numbers = np.asarray(numbers, np.int64)
        if len(numbers) and (np.diff(numbers) == 1).all():  # nearly always
            return cls(numbers[:1], numbers[-1:] + 1)
        numbers = np.unique(numbers)
        first = np.append(True, np.diff(numbers) > 1)[: len(numbers)]
        return cls(numbers[first], numbers[np.append(first[1:], True)[: len(numbers)]] + 1)

    @classmethod
    def joined(cls, sets: Iterable[RowSet]) -> RowSet:
        """Return all numbers of sets that may overlap."""
        sets = list(sets)
        starts = np.concatenate([np.zeros(0, np.int64), *(s.starts for s in sets)])
        ends = np.concatenate([np.zeros(0, np.int64), *(s.ends for s in sets)])
        order = np.argsort(starts, kind="stable")
        starts, reached = starts[order], np.maximum.accumulate(ends[order])
        first = np.append(True, starts[1:] > reached[:-1])[: len(starts)]
        return cls(starts[first], reached[np.append(first[1:], True)[: len(starts)]])

    def __len__(self) -> int:
        return int((self.ends - self.starts).sum())

    def has(self, numbers: np.ndarray) -> np.ndarray:
        """Return bool [N]: which numbers are in the set."""
        if not len(self.starts):
            return np.zeros(len(numbers), bool)
        numbers = numbers.astype(np.int64)
        if len(self.starts) == 1:
            return np.asarray((numbers >= self.starts[0]) & (numbers < self.ends[0]))
        at = np.searchsorted(self.starts, numbers, "right") - 1
        return np.asarray((at >= 0) & (numbers < self.ends[at]))

    def minus(self, other: RowSet) -> RowSet:
        """Return the numbers that `other` lacks."""
        bounds = np.unique(np.concatenate([self.starts, self.ends, other.starts, other.ends]))
        starts, ends = bounds[:-1], bounds[1:]
        kept = self.has(starts) & ~other.has(starts)
        return RowSet.joined([RowSet(starts[kept], ends[kept])])


class GrowingRowSet:
    """Numbers that come a few at a time, in any order, each counted once."""

    def __init__(self) -> None:
        self._sets: list[RowSet] = []

    def add(self, numbers: np.ndarray) -> None:
        """Take numbers."""
        self._sets.append(RowSet.of(numbers))
        if len(self._sets) == JOINED:
            self._sets = [RowSet.joined(self._sets)]

    def __len__(self) -> int:
        self._sets = [RowSet.joined(self._sets)]
        return len(self._sets[0])
