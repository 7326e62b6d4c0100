"""Inputs in order of their addresses, each once: an Arrow column, and an `Input` is made when one is asked for."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import eq
from typing import Any, overload

import numpy as np

from reelwright.curation.ingest.inputs import Input
from reelwright.curation.ingest.spool import Spool
from reelwright.curation.keys.text_order import Numbered

CHUNK = 65_536
AHEAD = 256  # inputs that a queue makes at a time


class InputList(Sequence[Input]):
    """Inputs in order of their addresses, each once.

    Args:
        uris: the addresses, sorted, closed.
        told: number of an input -> the input, for those of which more is known than the address.
    """

    def __init__(self, uris: Spool, told: Mapping[int, Input]) -> None:
        self._uris, self.told = uris, told

    @classmethod
    def of(cls, batches: Iterable[Numbered], told: Mapping[int, Input]) -> InputList:
        """Return inputs that come in order. told: by the numbers that the batches give."""
        uris, here, known = Spool(), dict[int, Input](), np.array(sorted(told), np.int64)
        for texts, numbers in batches:
            for at in np.flatnonzero(np.isin(numbers, known)).tolist():
                here[uris.count + at] = told[int(numbers[at])]
            uris.add(texts)
        uris.close()
        return cls(uris, here)

    def __len__(self) -> int:
        return self._uris.count

    @overload
    def __getitem__(self, at: int) -> Input: ...

    @overload
    def __getitem__(self, at: slice) -> list[Input]: ...

    def __getitem__(self, at: int | slice) -> Input | list[Input]:
        numbers = np.arange(*at.indices(len(self))) if isinstance(at, slice) else np.array([range(len(self))[at]])
        uris = self._uris.take(numbers).to_pylist()
        found = [self.told.get(n) or Input(uri) for n, uri in zip(numbers.tolist(), uris, strict=True)]
        return found if isinstance(at, slice) else found[0]

    def __iter__(self) -> Iterator[Input]:
        for start, uris in self._uris.batches():
            yield from (self.told.get(start + n) or Input(uri) for n, uri in enumerate(uris.to_pylist()))

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
