"""Where the index of a large store's sources is kept: in a folder beside its tables, which may be deleted at any time.

The state is one small file that is replaced whole and names the segments, so that a kill leaves the one or the other.
"""

from __future__ import annotations

import json
import zipfile
from typing import Any

import numpy as np

from reelwright.curation.keys.row_set import RowSet
from reelwright.curation.keys.sorted_keys import load
from reelwright.curation.store import lock
from reelwright.curation.store.connection import Connection
from reelwright.curation.store.errors import StoreError
from reelwright.curation.store.known_index import KnownIndex, Segment, digest_of
from reelwright.curation.store.known_rows import KINDS
from reelwright.curation.store.known_shelf import Shelf
from reelwright.curation.store.known_words import Words
from reelwright.curation.store.row_marks import Mark
from reelwright.curation.store.schema import CURATION_LOCK

STATE_FILE = "state.npz"
FORMAT = 2
KEPT_FROM = 200_000
"""Sources, or clips, of a store that keeps an index; to read fewer takes no longer than to keep it."""
BROKEN = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile)


def up_to_date(store: Connection, cutting: str = "") -> tuple[KnownIndex, Any]:
    """Return the index of a store's sources as they are, and the dataset at that version.

    It is kept where the store is large and this process commits to it. cutting: fingerprint of settings by which
    sources may have been cut into parts; of parts alone it is not to be told.
    """
    dataset = store.dataset("sources")
    dataset = store.dataset("sources", dataset.version)  # stays there while the run adds rows
    index = KnownIndex()
    try:
        if any(store.count(table) >= KEPT_FROM for table in ("sources", "clips")):
            shelf = Shelf(store)
            index = _kept(store, dataset, shelf)
            if lock.is_held_here(store.uri, CURATION_LOCK):
                shelf.folder.mkdir(exist_ok=True)
                index.shelf = shelf
        index.cuttings.note(cutting)
        if index.update(dataset) and index.shelf is not None:
            keep(index, index.shelf)
    except OSError:  # no room for it there, or the server is away: it can be had without
        index = KnownIndex()
        index.cuttings.note(cutting)
        index.update(dataset)
    return index, dataset


def keep(index: KnownIndex, shelf: Shelf) -> None:
    """Write the state, and delete the segments that it no longer names."""
    names = [f"{segment.name}.{key}" for segment in index.segments for key in KINDS]
    with open(shelf.folder / f"{STATE_FILE}.new", "wb") as file:
        np.savez(file, **_arrays(index))
    shelf.put(names, STATE_FILE)
    shelf.drop_others([*names, STATE_FILE])


def _kept(store: Connection, dataset: Any, shelf: Shelf) -> KnownIndex:
    """Return the index that is kept, if it is this table's; else an empty one."""
    try:
        index = _read(shelf)
    except BROKEN:
        return KnownIndex()
    return index if _is_of(index, store, dataset) else KnownIndex()


def _is_of(index: KnownIndex, store: Connection, dataset: Any) -> bool:
    """Return whether an index was made of this table, not of another that was at its place before."""
    if index.mark.version > dataset.version:
        return False
    try:
        then = store.dataset("sources", index.mark.version)
    except StoreError:  # cleaned up: the table is at a later version, and nothing tells that it is another
        return index.mark.version < dataset.version
    return digest_of(then) == index.digest


def _arrays(index: KnownIndex) -> dict[str, Any]:
    marks = {"sources": index.mark, **{f"checked.{name}": mark for name, mark in index.checked.items()}}
    about = {
        "format": FORMAT, "digest": index.digest, "cuttings": index.cuttings.texts, "reasons": index.reasons.texts,
        "segments": [segment.name for segment in index.segments],
        "versions": {name: mark.version for name, mark in marks.items()},
    }  # fmt: skip
    rows = {f"rows.{name}": _pairs(mark.rows) for name, mark in marks.items()}
    updated = {f"updated.{segment.name}": _pairs(segment.updated) for segment in index.segments}
    text = np.frombuffer(json.dumps(about).encode(), np.uint8)
    return {"about": text, "several": index.several, "lost": index.lost, **rows, **updated}


def _read(shelf: Shelf) -> KnownIndex:
    with np.load(shelf.fetch(STATE_FILE)) as kept:
        about = json.loads(kept["about"].tobytes())
        if about["format"] != FORMAT:
            raise ValueError(f"the index in {shelf.folder} is of another format")
        index = KnownIndex()
        index.digest, index.several, index.lost = about["digest"], kept["several"], kept["lost"]
        index.cuttings, index.reasons = Words(about["cuttings"]), Words(about["reasons"])
        marks = {name: Mark(version, _set(kept[f"rows.{name}"])) for name, version in about["versions"].items()}
        index.mark = marks.pop("sources")
        index.checked = {name.removeprefix("checked."): mark for name, mark in marks.items()}
        for name in about["segments"]:
            keys = {key: load(shelf.fetch(f"{name}.{key}"), kind) for key, kind in KINDS.items()}
            index.segments.append(Segment(name, keys, _set(kept[f"updated.{name}"])))
    return index


def _pairs(rows: RowSet) -> np.ndarray:
    return np.stack([rows.starts, rows.ends], 1)


def _set(pairs: np.ndarray) -> RowSet:
    return RowSet(pairs[:, 0], pairs[:, 1])
