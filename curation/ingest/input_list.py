"""Inputs by the hundred million: their addresses are an Arrow column, and an `Input` is made when one is asked for."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from operator import eq
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelwright.curation.ingest.inputs import Input
from reelwright.curation.signed import is_signed

CHUNK = 65_536
AHEAD = 256  # inputs that a queue makes at a time


class InputList(Sequence[Input]):
    """Inputs in order of their addresses, each once.

    Args:
        uris: the addresses, sorted.
        told: number of an input -> the input, for those of which more is known than the address.
    """

    def __init__(self, uris: pa.Array, told: Mapping[int, Input]) -> None:
        self._uris, self.told = uris, told

    def __len__(self) -> int:
        return len(self._uris)

    @overload
    def __getitem__(self, at: int) -> Input: ...

    @overload
    def __getitem__(self, at: slice) -> list[Input]: ...

    def __getitem__(self, at: int | slice) -> Input | list[Input]:
        if isinstance(at, slice):
            return self.some(np.arange(*at.indices(len(self))))
        number = range(len(self))[at]
        return self.told.get(number) or Input(self._uris[number].as_py())

    def __iter__(self) -> Iterator[Input]:
        for start in range(0, len(self), CHUNK):
            yield from self[start : start + CHUNK]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]

    def __contains__(self, item: Any) -> bool:
        return isinstance(item, Input) and self.has(item.uri) and self[self._place(item.uri)] == item

    def some(self, numbers: np.ndarray) -> list[Input]:
        """Return the inputs with these numbers, int64 [N]."""
        uris = self._uris.take(pa.array(numbers)).to_pylist()
        return [self.told.get(n) or Input(uri) for n, uri in zip(numbers.tolist(), uris, strict=True)]

    def has(self, uri: str) -> bool:
        """Return whether an input has this address."""
        at = self._place(uri)
        return at < len(self) and self._uris[at].as_py() == uri

    def uris(self, start: int, stop: int) -> pa.Array:
        """Return the addresses of inputs [start, stop)."""
        return self._uris.slice(start, stop - start)

    def _place(self, uri: str) -> int:
        return bisect_left(range(len(self)), uri, key=lambda n: self._uris[n].as_py())


class Chosen(Sequence[Input]):
    """Some inputs of a list. numbers: int64 [N]."""

    def __init__(self, files: InputList, numbers: np.ndarray) -> None:
        self._files, self._numbers = files, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, at: int) -> Input: ...

    @overload
    def __getitem__(self, at: slice) -> list[Input]: ...

    def __getitem__(self, at: int | slice) -> Input | list[Input]:
        if isinstance(at, slice):
            return self._files.some(self._numbers[at])
        return self._files[int(self._numbers[at])]


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


def input_list(files: Sequence[Input]) -> InputList:
    """Return inputs that are sorted by their addresses, each once, as a list of this kind."""
    if isinstance(files, InputList):
        return files
    told = {n: item for n, item in enumerate(files) if is_told(item)}
    return InputList(pa.array([item.uri for item in files], pa.large_string()), told)


def is_told(item: Input) -> bool:
    """Return whether more is known of an input than its address."""
    said = (item.source_id, item.licence, item.refused)
    return bool(item.captions or item.spans) or is_signed(item.uri) or any(value is not None for value in said)


class Collector:
    """Takes inputs in any order; those with one address become one."""

    def __init__(self) -> None:
        self._plain: list[str] = []
        self._is_row: list[bool] = []
        self._parts: list[tuple[pa.Array, np.ndarray]] = []
        self._told: dict[str, Input] = {}

    def add(self, item: Input) -> None:
        """Take an input."""
        if is_told(item):
            known = self._told.get(item.uri)
            self._told[item.uri] = item if known is None else known.joined(item)
            return
        self._plain.append(item.uri)
        self._is_row.append(item.is_row)
        if len(self._plain) == CHUNK:
            self._close()

    def add_rows(self, uris: pa.Array) -> None:
        """Take rows of a list that holds addresses alone: large_string [N]."""
        self._parts.append((uris, np.ones(len(uris), bool)))

    def done(self) -> InputList:
        """Return all of them, sorted by address."""
        self._close()
        told = list(self._told.values())
        columns = [uris for uris, _ in self._parts] + [pa.array([item.uri for item in told], pa.large_string())]
        uris = pa.chunked_array(columns, pa.large_string())
        is_row = np.concatenate([rows for _, rows in self._parts] + [np.zeros(len(told), bool)])
        self._parts.clear()
        order = pc.sort_indices(uris)
        uris = uris.take(order).combine_chunks()
        where, plain = order.to_numpy(), len(is_row) - len(told)
        is_first = np.ones(len(uris), bool)
        if len(uris) > 1:
            is_first[1:] = ~pc.equal(uris[1:], uris[:-1]).to_numpy(zero_copy_only=False)
        number = np.cumsum(is_first) - 1  # of the input that an address becomes
        named = np.zeros(int(number[-1]) + 1 if len(number) else 0, bool)
        named[number[is_row[where]]] = True
        joined = {}
        for at in np.flatnonzero(where >= plain).tolist():
            item, n = told[where[at] - plain], int(number[at])
            joined[n] = item.joined(Input(item.uri, is_row=True)) if named[n] else item
        return InputList(uris if is_first.all() else uris.filter(pa.array(is_first)), joined)

    def _close(self) -> None:
        if self._plain:
            self._parts.append((pa.array(self._plain, pa.large_string()), np.array(self._is_row, bool)))
            self._plain, self._is_row = [], []
