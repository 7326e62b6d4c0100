"""From inputs in any order to a listing: those with one address become one, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from reelwright.curation.ingest.inputs import Input
from reelwright.curation.ingest.listing import NAMED, PLAIN, Listing, as_named
from reelwright.curation.ingest.same_files import SameFiles
from reelwright.curation.ingest.spool import TEXT, Spool
from reelwright.curation.ingest.told import SAID, TOLD, as_columns, is_told
from reelwright.curation.keys.hashing import Hasher
from reelwright.curation.keys.sorted_keys import begins, sort, write
from reelwright.curation.keys.sorter import Sorter

CHUNK = 65_536
TOLD_CHUNK = 16_384
IS_ROW, IS_TOLD, SHIFT = 1, 2, 2
"""While records are sorted, the lowest bits of a number say whether it is of a list's row, and of a row of TOLD."""


class Collector:
    """Takes inputs in any order; those with one address become one."""

    def __init__(self) -> None:
        self._uris, self._told, self._hash = Spool(), Spool(TOLD), Hasher()
        self._plain_keys, self._told_keys = Sorter(PLAIN), Sorter(NAMED)
        self._plain_inputs: list[Input] = []
        self._told_inputs: list[Input] = []

    def add(self, item: Input) -> None:
        """Take an input."""
        if is_told(item):
            self._told_inputs.append(item)
            if len(self._told_inputs) == TOLD_CHUNK:
                self._close_told()
        else:
            self._plain_inputs.append(item)
            if len(self._plain_inputs) == CHUNK:
                self._close_plain()

    def add_rows(self, uris: pa.Array) -> None:
        """Take rows of a list that holds addresses alone: large_string [N]."""
        self._add_plain(uris, np.full(len(uris), IS_ROW))

    def add_told(self, rows: pa.RecordBatch) -> None:
        """Take rows of a list, TOLD."""
        if _says_nothing(rows):
            self.add_rows(rows.column(TEXT))
            return
        self._close_told()  # the order of a file's rows counts
        is_row = np.asarray(rows.column("is_row")).astype(np.int64)
        records = self._keys_of(rows.column(TEXT), self._told.count, is_row * IS_ROW + IS_TOLD, NAMED)
        records["said"] = rows.column(SAID)
        self._told_keys.add(records)
        self._told.add(rows)

    @property
    def count(self) -> int:
        """How many were taken."""
        return self._uris.count + self._told.count + len(self._plain_inputs) + len(self._told_inputs)

    def done(self) -> Listing:
        """Return all of them."""
        self._close_plain()
        self._close_told()
        self._uris.close()
        self._told.close()
        shared, also = np.zeros(self._told.count, bool), list[np.ndarray]()
        kind = NAMED if self._told.count else PLAIN
        keys = write(self._each_once(shared, also), self._uris.count + self._told.count, kind)
        return Listing(self._uris, self._told, self._joined(shared, also), shared, keys)

    def _add_plain(self, uris: pa.Array, bits: np.ndarray) -> None:
        self._plain_keys.add(self._keys_of(uris, self._uris.count, bits, PLAIN))
        self._uris.add(uris)

    def _keys_of(self, uris: pa.Array, first: int, bits: np.ndarray, kind: np.dtype) -> np.ndarray:
        """Return records of addresses. first: number of the first of them, among those of their kind."""
        records = np.empty(len(uris), kind)
        records["upper"], records["lower"] = self._hash(uris)
        records["number"] = (np.arange(first, first + len(uris)) << SHIFT) + bits
        return records

    def _sorted(self) -> Iterator[np.ndarray]:
        """Yield the records of all addresses, by ranges of keys; those of TOLD stay in the order of its rows."""
        told = self._told_keys.parts() if self._told.count else None
        for plain in self._plain_keys.parts():
            if told is None:
                yield plain
                continue
            mine = next(told)
            yield sort(np.concatenate([as_named(plain), mine])) if len(plain) else mine

    def _each_once(self, shared: np.ndarray, also: list[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield each address once, by ranges of keys, with its number in the listing.

        Args:
            shared: bool, by row of TOLD; set where it is to be joined with others.
            also: gets of each range, of each file whose rows are joined, whether a row that says no more names it.
        """
        plain, joined = self._uris.count, self._uris.count + self._told.count
        for records in self._sorted():
            first = np.flatnonzero(begins(records))
            number, bits = records["number"] >> SHIFT, records["number"] & (IS_ROW | IS_TOLD)
            is_told = bits & IS_TOLD != 0
            if not is_told.any():
                found = records.take(first)
                found["number"] = number[first]
                yield found
                also.append(np.zeros(0, bool))
                continue
            rows = np.add.reduceat(is_told.astype(np.int64), first)
            last = np.maximum.reduceat(np.where(is_told, np.arange(len(records)), -1), first)
            asks = np.logical_or.reduceat(bits == IS_ROW, first)
            found = records.take(np.where(rows > 0, last, first))
            found["number"] = np.where(rows > 0, number[last] + plain, number[first])
            together = (rows > 1) | ((rows > 0) & asks)
            found["number"][together] = joined + np.arange(together.sum())
            joined += int(together.sum())
            of = np.repeat(together, np.diff(first, append=len(records)))
            shared[number[of & is_told]] = True
            also.append(asks[together])
            yield found

    def _joined(self, shared: np.ndarray, also: list[np.ndarray]) -> Spool:
        """Return the rows of files that several rows name, one for each, in the order of their numbers."""
        found = Spool(TOLD)
        if shared.any():
            files = SameFiles()
            for start, rows in self._told.batches():
                files.add(rows.filter(pa.array(shared[start : start + len(rows)])))
            for rows in files.joined(also):
                found.add(rows)
        found.close()
        return found

    def _close_plain(self) -> None:
        items, self._plain_inputs = self._plain_inputs, []
        uris = pa.array([item.uri for item in items], pa.large_string())
        bits = np.array([IS_ROW * item.is_row for item in items], np.int64)
        self._add_plain(uris, bits)

    def _close_told(self) -> None:
        items, self._told_inputs = self._told_inputs, []
        if items:
            self.add_told(as_columns(items, self._hash))


def _says_nothing(rows: pa.RecordBatch) -> bool:
    """Return whether rows of lists name files, and no more."""
    texts = (rows.column(name) for name in ("link", "source_id", "licence", "refused"))
    are_bare = all(column.null_count == len(rows) for column in texts) and not np.asarray(rows.column(SAID)).any()
    return are_bare and bool(np.asarray(rows.column("is_row")).all())


def listing(files: Sequence[Input]) -> Listing:
    """Return inputs, each with an address of its own, as a listing."""
    if isinstance(files, Listing):
        return files
    collector = Collector()
    for item in files:
        collector.add(item)
    return collector.done()
