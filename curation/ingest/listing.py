"""Inputs by the hundred million: addresses in a file, found by key; one that is named twice is one input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from operator import eq
from typing import Any, overload

import numpy as np
import pyarrow as pa

from reelwright.curation.ingest.input_list import InputList
from reelwright.curation.ingest.inputs import Input
from reelwright.curation.ingest.spool import Spool
from reelwright.curation.keys.hashing import Hasher, halves
from reelwright.curation.keys.sorted_keys import KEY, PARTS, SortedKeys, begins, write
from reelwright.curation.keys.sorter import Sorter
from reelwright.curation.keys.text_order import Numbered, in_order
from reelwright.curation.signed import is_signed

CHUNK = 65_536
NAMED = np.dtype([*KEY, ("number", "<i8")])


class Listing(Sequence[Input]):
    """Inputs, each once, with numbers in no order; as a sequence they are sorted by address.

    Args:
        uris: addresses by number, some of them perhaps more than once.
        keys: of NAMED records: each address once, with a number.
        told: number -> the input, for those of which more is known than the address, in order of their addresses.
    """

    def __init__(self, uris: Spool, keys: SortedKeys, told: Mapping[int, Input]) -> None:
        self._uris, self.keys, self.told = uris, keys, told

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def numbers(self) -> int:
        """All numbers are less."""
        return self._uris.count

    def has(self, uri: str) -> bool:
        """Return whether an input has this address."""
        return bool(len(self.keys.find(*halves(uri))))

    def some(self, numbers: np.ndarray) -> list[tuple[int, Input]]:
        """Return (number, input) of some inputs, by their addresses. numbers: int64 [N]."""
        uris = self._uris.take(numbers).to_pylist()
        named = zip(numbers.tolist(), uris, strict=True)
        return sorted(((n, self.told.get(n) or Input(uri)) for n, uri in named), key=lambda pair: pair[1].uri)

    def addresses(self, numbers: np.ndarray) -> list[str]:
        """Return the addresses of some inputs, int64 [N]."""
        return self._uris.take(numbers).to_pylist()

    def chosen(self, wanted: np.ndarray) -> InputList:
        """Return some inputs in order of their addresses. wanted: bool, by number."""

        def batches() -> Iterator[Numbered]:
            for start, uris in self._uris.batches():
                here = np.flatnonzero(wanted[start : start + len(uris)])
                if len(here):
                    yield uris.take(pa.array(here)), start + here

        return InputList.of(in_order(batches()), self.told)

    # --- as a sequence, which few ask for --------------------------------------------------------------------------

    @cached_property
    def _in_order(self) -> InputList:
        wanted = np.zeros(self.numbers, bool)
        for part in range(PARTS):
            wanted[self.keys.part(part)["number"]] = True
        return self.chosen(wanted)

    @overload
    def __getitem__(self, at: int) -> Input: ...

    @overload
    def __getitem__(self, at: slice) -> list[Input]: ...

    def __getitem__(self, at: int | slice) -> Input | list[Input]:
        return self._in_order[at]

    def __iter__(self) -> Iterator[Input]:
        return iter(self._in_order)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]

    def __contains__(self, item: Any) -> bool:
        return item in self._in_order


class Collector:
    """Takes inputs in any order; those with one address become one."""

    def __init__(self) -> None:
        self._uris, self._keys, self._hash = Spool(), Sorter(NAMED), Hasher()
        self._plain: list[str] = []
        self._is_row: list[bool] = []
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
        self._take(uris, np.ones(len(uris), bool))

    def done(self) -> Listing:
        """Return all of them. Those of which more is known than the address have the last numbers."""
        self._close()
        plain = self._uris.count
        told = [self._told[uri] for uri in sorted(self._told)]
        self._take(pa.array([item.uri for item in told], pa.large_string()), np.zeros(len(told), bool))
        self._uris.close()
        known = dict(enumerate(told, plain))
        keys = write(self._each_once(known, plain), self._keys.count, NAMED)
        return Listing(self._uris, keys, known)

    def _take(self, uris: pa.Array, is_row: np.ndarray) -> None:
        """Give numbers to addresses. For a while the lowest bit of a record's number says whether it is a row."""
        records = np.empty(len(uris), NAMED)
        records["upper"], records["lower"] = self._hash(uris)
        records["number"] = np.arange(self._uris.count, self._uris.count + len(uris)) * 2 + is_row
        self._keys.add(records)
        self._uris.add(uris)

    def _each_once(self, known: dict[int, Input], plain: int) -> Iterator[np.ndarray]:
        """Yield each address once, by its last number; join what is known of an input with a row that names it alone.

        plain: numbers before it are of addresses alone.
        """
        for records in self._keys.parts():
            first = np.flatnonzero(begins(records))
            if not len(first):
                yield records
                continue
            found = records[np.append(first[1:], len(records)) - 1]
            named = np.bitwise_or.reduceat(records["number"], first) & 1 == 1
            found["number"] >>= 1
            for n in found["number"][named & (found["number"] >= plain)].tolist():
                known[n] = known[n].joined(Input(known[n].uri, is_row=True))
            yield found

    def _close(self) -> None:
        if self._plain:
            self._take(pa.array(self._plain, pa.large_string()), np.array(self._is_row, bool))
            self._plain, self._is_row = [], []


def listing(files: Sequence[Input]) -> Listing:
    """Return inputs, each with an address of its own, as a listing."""
    if isinstance(files, Listing):
        return files
    collector = Collector()
    for item in files:
        collector.add(item)
    return collector.done()


def is_told(item: Input) -> bool:
    """Return whether more is known of an input than its address."""
    said = (item.source_id, item.licence, item.refused)
    return bool(item.captions or item.spans) or is_signed(item.uri) or any(value is not None for value in said)
