"""Inputs by the hundred million: addresses, and what else is told of them, in files; found by key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from operator import eq
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelwright.curation.ingest.input_list import NUMBERED, InputList
from reelwright.curation.ingest.inputs import Input
from reelwright.curation.ingest.spool import TEXT, Chain, Spool
from reelwright.curation.ingest.told import SAID, TOLD, as_inputs
from reelwright.curation.keys.hashing import halves
from reelwright.curation.keys.row_order import rows_in_order
from reelwright.curation.keys.sorted_keys import KEY, PARTS, SortedKeys

PLAIN = np.dtype([*KEY, ("number", "<i8")])
NAMED = np.dtype([*KEY, ("number", "<i8"), ("said", "<u8")])
"""A file by the key of its address; said: what is told of its captions and parts, a key. PLAIN: of nothing else."""


def as_named(records: np.ndarray) -> np.ndarray:
    """Return PLAIN records as NAMED ones, of which nothing is said."""
    if records.dtype == NAMED:
        return records
    found = np.zeros(len(records), NAMED)
    for name in PLAIN.names or ():
        found[name] = records[name]
    return found


class Listing(Sequence[Input]):
    """Inputs, each once, with numbers in no order; as a sequence they are sorted by address.

    Args:
        uris: addresses of which no more is known, some of them perhaps more than once.
        told: rows of lists, TOLD.
        joined: inputs that several rows name, TOLD.
        shared: bool, by row of `told`, whether it is part of one of `joined`.
        keys: of NAMED records, or of PLAIN ones where nothing is told: each address once, with its number, counted
            through uris, told and joined.
    """

    def __init__(self, uris: Spool, told: Spool, joined: Spool, shared: np.ndarray, keys: SortedKeys) -> None:
        self._first, self._joined, self._shared, self._keys = uris.count, uris.count + told.count, shared, keys
        self._uris, self._told = Chain([uris, told, joined], [TEXT]), Chain([told, joined], TOLD.names)

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def numbers(self) -> int:
        """All numbers are less."""
        return self._uris.count

    def part(self, number: int) -> np.ndarray:
        """Return NAMED records, sorted, of one of PARTS ranges of keys."""
        records = as_named(self._keys.part(number))
        joined = np.flatnonzero(records["number"] >= self._joined)
        if len(joined):
            records = records.copy()
            rows = self._told.take(records["number"][joined] - self._first, [SAID])
            records["said"][joined] = rows.column(0)
        return records

    def has(self, uri: str) -> bool:
        """Return whether an input has this address."""
        return bool(len(self._keys.find(*halves(uri))))

    def some(self, numbers: np.ndarray) -> list[tuple[int, Input]]:
        """Return (number, input) of some inputs, by their addresses. numbers: int64 [N]."""
        named = zip(numbers.tolist(), self._inputs(self.addresses(numbers), numbers), strict=True)
        return sorted(named, key=lambda pair: pair[1].uri)

    def addresses(self, numbers: np.ndarray) -> list[str]:
        """Return the addresses of some inputs, int64 [N]."""
        return self._uris.take(numbers).column(0).to_pylist()

    def chosen(self, wanted: np.ndarray) -> InputList:
        """Return some inputs in order of their addresses. wanted: bool, by number."""

        def batches() -> Iterator[pa.RecordBatch]:
            for start, rows in self._uris.batches():
                here = pa.array(np.flatnonzero(wanted[start : start + len(rows)]))
                if len(here):
                    yield pa.record_batch([rows.column(0).take(here), pc.add(here, start)], schema=NUMBERED)

        return InputList.of(rows_in_order(batches(), NUMBERED, [TEXT]), self._inputs)

    def told(self, columns: Sequence[str]) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
        """Yield inputs of which more is known than the address, by batches: their numbers, and columns of TOLD."""
        for start, rows in self._told.batches():
            own = np.ones(len(rows), bool)
            own[: max(0, len(self._shared) - start)] = ~self._shared[start : start + len(rows)]
            found = rows.select(list(columns))
            if own.any():
                yield self._first + start + np.flatnonzero(own), found if own.all() else found.filter(pa.array(own))

    @cached_property
    def refused(self) -> InputList:
        """Rows of lists that cannot be used, in order of their addresses."""
        wanted = np.zeros(self.numbers, bool)
        for numbers, rows in self.told(["refused"]):
            wanted[numbers] = np.asarray(rows.column(0).is_valid())
        return self.chosen(wanted)

    def _inputs(self, uris: Sequence[str], numbers: np.ndarray) -> list[Input]:
        """Return inputs with these addresses and numbers, int64 [N]."""
        told = np.flatnonzero(numbers >= self._first)
        known = dict(zip(told.tolist(), as_inputs(self._told.take(numbers[told] - self._first)), strict=True))
        return [known.get(at) or Input(uri) for at, uri in enumerate(uris)]

    # --- as a sequence, which few ask for --------------------------------------------------------------------------

    @cached_property
    def _in_order(self) -> InputList:
        wanted = np.zeros(self.numbers, bool)
        for part in range(PARTS):
            wanted[self._keys.part(part)["number"]] = True
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
