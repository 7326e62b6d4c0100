"""What a run asks a store's sources: the newest row of an address, and who stands for an MD5 or an id.

Each is a mapping that reads rows when it is asked, and remembers what the run decided since.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from reelwright.curation.store.known_sources import ROW, KnownSources

Row = dict[str, Any]


class NewestRows:
    """Address -> its newest row. A row that is set or deleted here is so for this run alone."""

    def __init__(self, known: KnownSources, below: NewestRows | None = None) -> None:
        """Know no row yet. below: rows to ask where nothing was set or deleted here."""
        self._known, self._below = known, below
        self._own: dict[str, Row | None] = {}

    def get(self, uri: str) -> Row | None:
        """Return the newest row of an address; None if it has none."""
        if uri not in self._own:
            if self._below is not None:
                return self._below.get(uri)
            self._own[uri] = newest(self._known.rows(self._known.with_uri(uri)))
        return self._own[uri]

    def __getitem__(self, uri: str) -> Row:
        row = self.get(uri)
        if row is None:
            raise KeyError(uri)
        return row

    def __setitem__(self, uri: str, row: Row) -> None:
        self._own[uri] = row

    def __delitem__(self, uri: str) -> None:
        self._own[uri] = None

    def fetch(self, uris: Iterable[str]) -> None:
        """Read the rows of these addresses at once."""
        asked = [uri for uri in dict.fromkeys(uris) if uri not in self._own]
        self.learn(self._known.rows([row for uri in asked for row in self._known.with_uri(uri)]))

    def learn(self, rows: Iterable[Row]) -> None:
        """Take over rows that were read already: all there are of their addresses."""
        for row in sorted(rows, key=_age):
            self._own[row["uri"]] = row


class GoodRows:
    """MD5 -> the newest row that is ok."""

    def __init__(self, known: KnownSources) -> None:
        self._known = known
        self._own: dict[str, Row] = {}

    def get(self, md5: str) -> Row | None:
        """Return the row of a source that is ok; None if there is none."""
        if md5 not in self._own:
            found = self._known.good(md5)
            if not len(found):  # nor remembered: most files are new
                return None
            self._own[md5] = self._known.rows([found.max()])[0]
        return self._own[md5]

    def __contains__(self, md5: str) -> bool:
        return self.get(md5) is not None

    def __getitem__(self, md5: str) -> Row:
        row = self.get(md5)
        if row is None:
            raise KeyError(md5)
        return row

    def __setitem__(self, md5: str, row: Row) -> None:
        self._own[md5] = row

    def fetch(self, md5s: Iterable[str]) -> None:
        """Read the rows of these MD5s at once."""
        asked = [md5 for md5 in dict.fromkeys(md5s) if md5 not in self._own]
        good = [row for md5 in asked for row in self._known.good(md5)]
        for row in sorted(self._known.rows(good), key=_age):
            self._own[row["md5"]] = row


class Survivors:
    """MD5 or id -> address of the source that stands for it, first by the store, and then by the run.

    A duplicate's leads to its survivor; a file that failed stands for nothing.
    """

    def __init__(self, known: KnownSources, key: str, rows: NewestRows, earlier: Mapping[str, str]) -> None:
        """Look up nothing yet.

        Args:
            known: the store's sources.
            key: "md5" or "source_id".
            rows: newest rows, as this run takes them.
            earlier: what stands for a key where no newest row does.
        """
        self._known, self._key, self._rows, self._earlier = known, key, rows, earlier
        self._own: dict[str, str | None] = {}

    def get(self, key: str) -> str | None:
        """Return who stands for a key; None if nobody does."""
        if key not in self._own:
            found = self._look(key)
            if found is None:
                return None
            self._own[key] = found
        return self._own[key]

    def setdefault(self, key: str, uri: str) -> str:
        """Let `uri` stand for a key, unless another does already; return who does."""
        found = self.get(key)
        if found is None:
            self._own[key] = found = uri
        return found

    def __setitem__(self, key: str, uri: str) -> None:
        self._own[key] = uri

    def __delitem__(self, key: str) -> None:
        self._own[key] = None

    def _look(self, key: str) -> str | None:
        found = self._known.with_md5(key) if self._key == "md5" else self._known.with_id(key)
        rows = [row for row in self._known.rows(found) if self._stands(row)]
        for row in sorted(rows, key=lambda r: (r["state"] == "duplicate", _age(r))):
            return str(row["duplicate_of"] or row["uri"])
        return self._earlier.get(key)

    def _stands(self, row: Row) -> bool:
        current = self._rows.get(row["uri"])
        return current is not None and is_same(current, row)


def newest(rows: Iterable[Row]) -> Row | None:
    """Return the row that was written last; None if there is none."""
    ordered = sorted(rows, key=_age)
    return ordered[-1] if ordered else None


def is_same(row: Row | None, other: Row) -> bool:
    """Return whether two rows are one row of the table, at one address."""
    return row is not None and row["uri"] == other["uri"] and row[ROW] == other[ROW]


def _age(row: Row) -> int:
    """Return what orders rows by when they were written: their ids, as one process at a time commits and Lance counts.

    Clocks do not tell: those of two hosts that wrote to one store may be an hour apart.
    """
    return int(row[ROW])
