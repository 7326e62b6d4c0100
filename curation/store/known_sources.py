"""The sources of a store at one version, found by address, MD5 and id without being held.

A row is known by its id, and read from the table when it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from reelwright.curation.keys.hashing import halves
from reelwright.curation.keys.sorted_keys import shares
from reelwright.curation.store import datasets
from reelwright.curation.store.connection import Connection
from reelwright.curation.store.known_kept import up_to_date
from reelwright.curation.store.known_rows import BESIDE, DUPLICATE, OK, UNSURE, state_of

ROWS_A_READ = 10_000
ROW = "row"


class KnownSources:
    """The index of a store's sources, and their rows.

    Args:
        store: has them.
        columns: of the rows that `rows` returns, beside ROW, a row's id: of two rows, the later has the larger one.
        cutting: fingerprint of the settings that sources are cut by now.
    """

    def __init__(self, store: Connection, columns: Sequence[str], cutting: str = "") -> None:
        self.index, self._dataset = up_to_date(store, cutting)
        self._columns = list(columns)
        self._absent = {f.name: f for f in datasets.missing_fields(self._dataset, "sources")}
        self._failed = np.sort(self.index.all("failed")["upper"])

    @property
    def several(self) -> np.ndarray:
        """Ids of rows whose address has several, uint64 [N]."""
        return self.index.several

    def part(self, number: int) -> np.ndarray:
        """Return records of URIS, sorted, of one of PARTS ranges of keys."""
        return self.index.part("uris", number)

    def are_unsure(self, records: np.ndarray) -> np.ndarray:
        """Return bool [N]: which records of a part say less than it seems.

        Their address has several, or they repeat a file that failed, or one on a disk, which may be gone.
        """
        found = shares(records) | (records["flags"] & (UNSURE | BESIDE) != 0)
        repeats = np.flatnonzero(state_of(records) == DUPLICATE)
        if len(repeats) and len(self._failed):
            survivors = records["extra"][repeats]
            at = np.minimum(np.searchsorted(self._failed, survivors), len(self._failed) - 1)
            found[repeats] |= self._failed[at] == survivors
        return found

    def with_uri(self, uri: str) -> np.ndarray:
        """Return the ids of an address's rows."""
        return self.index.find("uris", *halves(uri))["row"]

    def with_md5(self, md5: str) -> np.ndarray:
        """Return the ids of the rows with this MD5 that are no failures."""
        return self._no_failures("md5s", md5)

    def good(self, md5: str) -> np.ndarray:
        """Return the ids of the rows with this MD5 that are ok."""
        found = self.index.find("md5s", *halves(md5))
        return found["row"][found["state"] == OK]

    def with_id(self, source_id: str) -> np.ndarray:
        """Return the ids of the rows with this publisher's id that are no failures."""
        return self._no_failures("ids", source_id)

    def rows(self, ids: Iterable[int]) -> list[dict[str, Any]]:
        """Return rows as dicts, in the order of `ids`."""
        wanted, found = list(map(int, ids)), list[dict[str, Any]]()
        there = [name for name in self._columns if name not in self._absent]
        for start in range(0, len(wanted), ROWS_A_READ):
            some = wanted[start : start + ROWS_A_READ]
            part = datasets.with_nulls(self._dataset._take_rows(some, columns=there), self._columns, self._absent)
            found += [row | {ROW: number} for row, number in zip(part.to_pylist(), some, strict=True)]
        return found

    def _no_failures(self, name: str, text: str) -> np.ndarray:
        found = self.index.find(name, *halves(text))
        return found["row"][found["state"] <= DUPLICATE]
