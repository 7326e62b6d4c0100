"""Inputs in order of their addresses, each once: Arrow columns, and an `Input` is made when one is asked for."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import eq
from typing import Any, overload

import numpy as np
import pyarrow as pa

from reelwright.curation.ingest.inputs import Input
from reelwright.curation.ingest.spool import TEXTS, Spool

MADE = 4096  # inputs that are there at a time, where all are asked for
AHEAD = 256  # inputs that a queue makes at a time
NUMBERED = pa.schema([*TEXTS, ("number", pa.int64())])
Make = Callable[[Sequence[str], np.ndarray], list[Input]]


class InputList(Sequence[Input]):
    """Inputs in order of their addresses, each once.

    Args:
        rows: the addresses, sorted, and the inputs' numbers, closed.
        make: returns the inputs of addresses and numbers.
    """

    def __init__(self, rows: Spool, make: Make) -> None:
        self._rows, self._make = rows, make

    @classmethod
    def of(cls, batches: Iterable[pa.RecordBatch], make: Make) -> InputList:
        """Return inputs that come in order, NUMBERED."""
        rows = Spool(NUMBERED)
        for batch in batches:
            rows.add(batch)
        rows.close()
        return cls(rows, make)

    def __len__(self) -> int:
        return self._rows.count

    @overload
    def __getitem__(self, at: int) -> Input: ...

    @overload
    def __getitem__(self, at: slice) -> list[Input]: ...

    def __getitem__(self, at: int | slice) -> Input | list[Input]:
        numbers = np.arange(*at.indices(len(self))) if isinstance(at, slice) else np.array([range(len(self))[at]])
        found = self._made(self._rows.take(numbers))
        return found if isinstance(at, slice) else found[0]

    def __iter__(self) -> Iterator[Input]:
        for _, rows in self._rows.batches():
            for start in range(0, len(rows), MADE):
                yield from self._made(rows.slice(start, MADE))

    def _made(self, rows: pa.RecordBatch) -> list[Input]:
        return self._make(rows.column(0).to_pylist(), np.asarray(rows.column(1)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]

    def __contains__(self, item: Any) -> bool:
        at = bisect_left(self, item.uri, key=lambda one: one.uri) if isinstance(item, Input) else len(self)
        return at < len(self) and self[at] == item


class Queue:
    """Inputs in order, each taken once."""

    def __init__(self, inputs: Sequence[Input]) -> None:
        self._inputs, self._taken = inputs, 0
        self._next: list[Input] = []  # the last comes first

    def __bool__(self) -> bool:
        return self._taken < len(self._inputs)

    @property
    def head(self) -> Input:
        """The input that is taken next."""
        if not self._next:
            self._next = list(self._inputs[self._taken : self._taken + AHEAD])[::-1]
        return self._next[-1]

    def take(self) -> Input:
        """Take the next input."""
        head = self.head
        self._next.pop()
        self._taken += 1
        return head
