"""Ids of publishers that several files have: all are counted, and the first are named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelwright.curation.ingest.inputs import RepeatedId, RepeatedIds
from reelwright.curation.ingest.listing import Listing
from reelwright.curation.ingest.spool import TEXT
from reelwright.curation.keys.hashing import Hasher, halves
from reelwright.curation.keys.sorted_keys import KEY, SortedKeys, begins, shares, write
from reelwright.curation.keys.sorter import Sorter

NAMED_IDS = 5
OF_FILES = np.dtype([*KEY, ("number", "<i8")])


def repeated_ids(files: Listing) -> RepeatedIds:
    """Return how many ids several files have, and the first of them by their files' addresses."""
    sorter, hasher, first = Sorter(OF_FILES), Hasher(), files.numbers
    for numbers, rows in files.told(["source_id"]):
        known = rows.column(0).is_valid()
        ids = rows.column(0).filter(known)
        records = np.empty(len(ids), OF_FILES)
        records["upper"], records["lower"] = hasher(ids)
        records["number"] = numbers[np.asarray(known)]
        sorter.add(records)
        first = min(first, int(numbers[0]))
    count, repeats = 0, np.zeros(files.numbers - first, bool)

    def of_several() -> Any:
        nonlocal count
        for records in sorter.parts():
            some = records.compress(shares(records))
            count += int(begins(some).sum())
            repeats[some["number"] - first] = True
            yield some

    several = write(of_several(), sorter.count, OF_FILES)
    return RepeatedIds(count, tuple(_named(files, several, repeats, first))) if count else RepeatedIds()


def _named(files: Listing, several: SortedKeys, repeats: np.ndarray, first: int) -> list[RepeatedId]:
    """Return the first ids. repeats: bool, by number from `first` on, whether others have the file's id too."""
    known: dict[str, str] = {}  # id -> the first address so far
    last: str | None = None
    for numbers, rows in files.told([TEXT, "source_id"]):
        mask = pa.array(repeats[numbers - first])
        if last is not None:
            mask = pc.and_(mask, pc.less(rows.column(0), last))
        for uri, source_id in zip(*(column.to_pylist() for column in rows.filter(mask).columns), strict=True):
            known[source_id] = min(uri, known.get(source_id, uri))
        known = dict(sorted(known.items(), key=lambda pair: pair[1])[:NAMED_IDS])
        last = max(known.values()) if len(known) == NAMED_IDS else None
    return [RepeatedId(name, len(several.find(*halves(name))), uri) for name, uri in known.items()]
