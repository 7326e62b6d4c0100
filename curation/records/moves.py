"""Footage that moved: where a source's file is gone and its very bytes are at another address, that is its address now.

Clips hang on a source's MD5, so nothing of them changes; the old address stays in `sources.moved_from`. A disk that is
not mounted looks like a move too, and does no harm: once it is back, its file is a duplicate of the one that was there.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from reelwright.curation import usage
from reelwright.curation.ingest.inputs import STORES, Input
from reelwright.curation.ingest.listing import Listing
from reelwright.curation.records.lookups import GoodRows
from reelwright.curation.results import Probed
from reelwright.curation.store import Store
from reelwright.curation.store.schema import schemas
from reelwright.curation.store.sql_text import literals

CHUNK = 100


@dataclass(frozen=True)
class Move:
    """A file that was at `old` and is at `item.uri`.

    Attributes:
        is_recut: the run writes the source's new row itself.
        is_vacated: there is a file at `old`, of other bytes.
    """

    old: str
    md5: str
    item: Input
    bytes: int | None
    mtime_ns: int | None
    is_recut: bool = False
    is_vacated: bool = False


@dataclass
class Moves:
    """Files whose bytes were found at another address.

    Attributes:
        good: the row of each source that is ok, by MD5.
        vacated: (uri, MD5) of files known to have other bytes by now.
        inputs: uris of this run.
    """

    good: GoodRows
    vacated: set[tuple[str, str]]
    inputs: Listing
    made: int = 0
    pending: list[Move] = field(default_factory=list)
    recut: dict[str, Move] = field(default_factory=dict)  # by the new address

    def source_of(self, uri: str, md5: str | None) -> dict[str, Any] | None:
        """Return the row of a source whose file is gone and whose bytes are at `uri`, if there is one."""
        row = self.good.get(md5 or "")
        if row is None or row["uri"] == uri:
            return None
        return row if (row["uri"], row["md5"]) in self.vacated or is_gone(row["uri"]) else None

    def address_of(self, md5: str | None) -> str:
        """Return where the store says that these bytes are; '' if it knows none of them."""
        row = self.good.get(md5 or "")
        return row["uri"] if row else ""

    def add(self, row: Mapping[str, Any], item: Input, probed: Probed, *, is_recut: bool = False) -> Move:
        """Note that the source of `row` is at `item.uri`, to be committed; later twins find the new address.

        probed: facts of the file there.
        """
        old, md5 = row["uri"], row["md5"]
        is_vacated = (old, md5) in self.vacated
        move = Move(old, md5, item, probed.num_bytes, probed.mtime_ns, is_recut, is_vacated)
        self.made += 1
        self.pending.append(move)
        if is_recut:
            self.recut[item.uri] = move
        self.good[md5] = self.good[md5] | {"uri": item.uri}
        return move

    def forget(self, move: Move) -> None:
        """Forget a move: the file was to be re-cut at its new address, and could not be."""
        self.made -= 1
        self.pending.remove(move)

    def keep(self, store: Store, row: dict[str, Any], move: Move) -> dict[str, Any]:
        """Return the new row of a source that is re-cut where it is now, with the old row's values that it lacks."""
        store.ensure_columns("sources", [schemas()["sources"].field("moved_from")])
        old = self.good[move.md5] | {"uri": move.old}
        return row | {key: moved_row(old, move)[key] for key in ("source_id", "licence", "caption", "moved_from")}

    def commit(self, store: Store) -> None:
        """Write the recorded moves: first the new rows, then the old ones go, so that a crash loses no source."""
        pending, self.pending = self.pending, []
        if pending:
            store.ensure_columns("sources", [schemas()["sources"].field("moved_from")])
        for start in range(0, len(pending), CHUNK):
            _commit(store, pending[start : start + CHUNK], self.inputs)


def is_gone(uri: str) -> bool:
    """Return whether there is surely no file at this address; False where that is unknown."""
    try:
        if "://" not in uri:
            os.stat(uri)
        elif uri.partition("://")[0].lower() in STORES:
            import fsspec

            files, path = fsspec.core.url_to_fs(uri)
            usage.note_request()
            files.info(path)
        return False
    except (FileNotFoundError, NotADirectoryError):
        return True
    except Exception:  # no permission, a server that is down, a package that is missing
        return False


def moved_row(row: Mapping[str, Any], move: Move) -> dict[str, Any]:
    """Return a source's row at its new address; a manifest's present values take precedence over earlier ones."""
    own = row["source_id"] if row["source_id"] != move.old else move.item.uri
    return {
        **row,
        "uri": move.item.uri,
        "source_id": move.item.source_id or own,
        "licence": move.item.licence or row["licence"],
        "caption": move.item.caption or row["caption"],
        "bytes": move.bytes,
        "mtime_ns": move.mtime_ns,
        "moved_from": move.old,
        "ingested_at": datetime.now(UTC),
    }


def _commit(store: Store, moves: Sequence[Move], inputs: Listing) -> None:
    known = {(m.old, m.md5): m for m in moves}
    gone = {m.old: m for m in moves if not m.is_vacated}  # nothing is there any more, whatever its bytes were
    olds, news = literals([m.old for m in moves]), literals([m.item.uri for m in moves])
    at_old = f"uri IN ({olds}) AND md5 IN ({literals([m.md5 for m in moves])}) AND state = 'ok'"
    at_new = f"uri IN ({news}) AND state <> 'ok'"
    rows, copies = [], []
    for row in store.read("sources", filter=at_old).to_pylist():
        move = known.get((row["uri"], row["md5"]))
        if move is not None and not move.is_recut:
            rows.append(moved_row(row, move))
            if inputs.has(move.old) and not move.is_vacated:  # it is named still, and stands for the same bytes
                rows.append(row | {"state": "duplicate", "duplicate_of": move.item.uri, "num_clips": None,
                                   "cutting_fingerprint": None, "ingested_at": datetime.now(UTC)})  # fmt: skip
    at_copies = f"state = 'duplicate' AND duplicate_of IN ({olds})"
    for row in store.read("sources", filter=f"{at_copies} AND uri NOT IN ({news})").to_pylist():
        to = known.get((row["duplicate_of"], row["md5"])) or gone.get(row["duplicate_of"])
        if to is not None:
            rows.append(row | {"duplicate_of": to.item.uri})
            copies.append(row["uri"])
    store.append("sources", rows)
    old_rows = [f"(uri = {literals([m.old])} AND md5 = '{m.md5}' AND state = 'ok')" for m in moves if not m.is_recut]
    store.delete("sources", " OR ".join([*old_rows, f"({at_new})"]))
    if copies:
        store.delete("sources", f"{at_copies} AND uri IN ({literals(copies)})")
