"""An index of a store's sources by key, on disk: derived of the table, brought up to date by the rows that changed.

It is a few sorted segments, each of the rows that were new when it was written. Which of their rows are still there is
asked of the table. A table of few rows is read each time; the index of a large one is kept in the store.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reelwright.curation.keys.row_set import RowSet
from reelwright.curation.keys.sorted_keys import KEY, PARTS, SortedKeys, match, shares, sort, write
from reelwright.curation.store import datasets
from reelwright.curation.store.known_rows import KINDS, OK, READ, Records
from reelwright.curation.store.known_shelf import Shelf
from reelwright.curation.store.known_words import Words
from reelwright.curation.store.row_marks import NONE, ROW_ID, Changes, Mark, changes, fresh_rows

MOST_SEGMENTS = 8
LOOKED_UP = 10_000  # keys that are looked up one by one; for more, all parts are read


@dataclass
class Segment:
    """Rows that were new or changed at one time.

    Args:
        name: of its files.
        keys: name of KINDS -> records.
        updated: rows that earlier segments have too, as they were.
    """

    name: str
    keys: dict[str, SortedKeys]
    updated: RowSet


class KnownIndex:
    """The index, as it was kept or empty; `update` brings it up to date.

    Attributes:
        mark: the table it describes.
        segments: the oldest first.
        cuttings, reasons: words of its records.
        several: uint64, rows whose address has, or had, several.
        lost: KEY records: MD5s that were ok and are not any more, since leftovers were last looked for.
        checked: table -> its mark when there were no leftovers in it; empty where that is not known.
        digest: of the table's files, by which another table of that version is told.
        shelf: where new segments go; None: files without a name.
    """

    def __init__(self) -> None:
        self.mark, self.segments = Mark(), list[Segment]()
        self.cuttings, self.reasons = Words([]), Words([])
        self.several, self.lost = np.zeros(0, np.uint64), np.zeros(0, KEY)
        self.checked: dict[str, Mark] = {}
        self.digest = ""
        self.shelf: Shelf | None = None

    def part(self, name: str, number: int) -> np.ndarray:
        """Return the records of rows that are there, of one of PARTS ranges of keys, sorted."""
        pieces = [segment.keys[name].part(number) for segment in self.segments]
        return self._there(pieces, KINDS[name], in_order=True)

    def find(self, name: str, upper: np.uint64, lower: np.uint64) -> np.ndarray:
        """Return the records of rows that are there, with this key."""
        return self._there([segment.keys[name].find(upper, lower) for segment in self.segments], KINDS[name])

    def all(self, name: str) -> np.ndarray:
        """Return the records of rows that are there."""
        return self._there([segment.keys[name].all() for segment in self.segments], KINDS[name])

    def update(self, dataset: Any) -> bool:
        """Add what changed in the table since; return whether anything did."""
        found = changes(dataset, self.mark)
        self.mark = found.now
        self.digest = digest_of(dataset)
        if not found:
            return False
        earlier = list(self.segments)
        if found.fragments:
            self.segments.append(self._segment(dataset, found))
        self._note_lost(earlier, RowSet.joined([found.gone, found.updated]))
        self._note_several(found)
        if len(self.segments) > MOST_SEGMENTS:
            self._merge()
        return True

    def are_good(self, keys: np.ndarray) -> np.ndarray:
        """Return bool [N]: whether a source that is ok has this MD5. keys: KEY records, sorted."""
        if len(keys) <= LOOKED_UP:
            found = (self.find("md5s", *key)["state"] == OK for key in keys.tolist())
            return np.array([bool(states.any()) for states in found], bool)
        bounds = np.searchsorted(keys["upper"], np.arange(1, PARTS, dtype=np.uint64) << np.uint64(56))
        return np.concatenate([match(some, self.good(n)) >= 0 for n, some in enumerate(np.split(keys, bounds))])

    # --- keeping up ------------------------------------------------------------------------------------------------

    def _there(self, pieces: list[np.ndarray], kind: np.dtype, *, in_order: bool = False) -> np.ndarray:
        there = []
        for at, records in enumerate(pieces):
            if len(records):
                kept = self.mark.rows.has(records["row"])
                for later in self.segments[at + 1 :]:
                    if len(later.updated):
                        kept &= ~later.updated.has(records["row"])
                there.append(records if kept.all() else records.compress(kept))
        if len(there) == 1:
            return there[0]
        found = np.concatenate([np.zeros(0, kind), *there])
        return sort(found) if in_order else found

    def _segment(self, dataset: Any, found: Changes) -> Segment:
        absent = {f.name: f for f in datasets.missing_fields(dataset, "sources")}
        columns = [name for name in READ if name not in absent]
        records = Records(self.cuttings, self.reasons)
        for batch in fresh_rows(dataset, found, columns, updated=True):
            records.add(datasets.with_nulls(batch, READ, absent), batch.column(ROW_ID).to_numpy())
        name = uuid.uuid4().hex
        keys = {
            key: write(sorter.parts(), sorter.count, sorter.kind, self._path(name, key))
            for key, sorter in records.sorters.items()
        }
        return Segment(name, keys, found.updated)

    def _path(self, name: str, key: str) -> Path | None:
        return self.shelf.folder / f"{name}.{key}" if self.shelf is not None else None

    def _note_lost(self, earlier: list[Segment], changed: RowSet) -> None:
        """Note the MD5s of rows that were ok, if no row of theirs is now. earlier: the segments as they were."""
        if not len(changed) or not earlier:
            return
        lost = [self.lost]
        for number in range(PARTS):
            records = sort(np.concatenate([segment.keys["md5s"].part(number) for segment in earlier]))
            were = records.compress((records["state"] == OK) & changed.has(records["row"]))
            if len(were):
                lost.append(keys_of(were.compress(match(were, self.good(number)) < 0)))
        self.lost = np.unique(np.concatenate(lost))

    def good(self, number: int) -> np.ndarray:
        """Return the records of MD5s of sources that are ok, of one of PARTS ranges of keys, sorted."""
        records = self.part("md5s", number)
        return records.compress(records["state"] == OK)

    def _note_several(self, found: Changes) -> None:
        """Note rows whose address has several: those there were, and those that have the address of a new one."""
        several = [self.several[self.mark.rows.has(self.several)]]
        if found.fragments:
            several += [group["row"] for group in self._shared(self.segments[-1].keys["uris"])]
        self.several = np.unique(np.concatenate(several))

    def _shared(self, fresh: SortedKeys) -> Iterator[np.ndarray]:
        """Yield records that share their address with another. fresh: of the newest segment."""
        if len(fresh) <= LOOKED_UP:
            for key in keys_of(fresh.all()).tolist():
                records = self.find("uris", *key)
                if len(records) > 1:
                    yield records
            return
        for number in range(PARTS):
            records = self.part("uris", number)
            yield records.compress(shares(records))

    def _merge(self) -> None:
        """Put all segments into one."""
        name = uuid.uuid4().hex
        counts = {key: sum(len(segment.keys[key]) for segment in self.segments) for key in KINDS}
        keys = {
            key: write((self.part(key, n) for n in range(PARTS)), counts[key], kind, self._path(name, key))
            for key, kind in KINDS.items()
        }
        self.segments = [Segment(name, keys, NONE)]


def keys_of(records: np.ndarray) -> np.ndarray:
    """Return the KEY records of records."""
    found = np.empty(len(records), KEY)
    found["upper"], found["lower"] = records["upper"], records["lower"]
    return found


def digest_of(dataset: Any) -> str:
    """Return a text that two tables of one version do not share: it is of their files' names."""
    names = [str([d.path for d in f.data_files()]) for f in dataset.get_fragments()]
    return hashlib.blake2b("".join(names).encode(), digest_size=16).hexdigest()
