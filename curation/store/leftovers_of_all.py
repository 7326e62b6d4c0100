"""Leftovers of a killed run among all rows of a store, by keys that are sorted on disk."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from reelwright.curation.keys.hashing import Hasher
from reelwright.curation.keys.sorted_keys import KEY, begins, match
from reelwright.curation.keys.sorter import Sorter
from reelwright.curation.store.connection import Connection
from reelwright.curation.store.known_index import KnownIndex
from reelwright.curation.store.maintenance import Orphans
from reelwright.curation.store.row_keys import among, row_keys
from reelwright.curation.store.row_marks import ROW_ID, scan

PLAIN = np.dtype(KEY)
OF_CLIPS = -1
CLIPS = np.dtype([*KEY, ("row", "<i8")])
"""row: of `media`, or OF_CLIPS."""


def leftovers_of_all(store: Connection, index: KnownIndex) -> Orphans:
    """Return what `orphans` finds. index: of the sources as they are."""
    lost = _lost_sources(store, index)
    clips, shots = _rows(store, "clips", ["source_md5", "clip_id"], lost), _rows(store, "shots", ["source_md5"], lost)
    media = _lost_media(store, lost)
    md5s = {md5 for rows in (clips, shots) for md5 in rows.column("source_md5").to_pylist() if md5 is not None}
    ids = {*clips.column("clip_id").to_pylist(), *media}
    return Orphans(sorted(md5s), sorted(ids), clips.num_rows, shots.num_rows, len(media))


def _lost_sources(store: Connection, index: KnownIndex) -> np.ndarray:
    """Return KEY records, sorted, of MD5s that clips and shots name, and that are of no source that is ok."""
    hasher, sorter, found = Hasher(), Sorter(PLAIN), [np.zeros(0, PLAIN)]
    for table in ("clips", "shots"):
        for batch in scan(store.dataset(table), ["source_md5"]):
            keys = row_keys(hasher, batch.column("source_md5"))
            sorter.add(keys[begins(keys)])  # rows of one source mostly lie side by side
    for part, keys in enumerate(sorter.parts()):
        each = keys[begins(keys)]
        is_none = each == np.zeros((), PLAIN)
        found.append(each[is_none | (match(each, index.good(part)) < 0)])
    return np.concatenate(found)


def _rows(store: Connection, table: str, columns: list[str], lost: np.ndarray) -> pa.Table:
    """Return a table's rows of lost sources."""
    hasher, kept = Hasher(), [pa.schema([store.schema(table).field(name) for name in columns]).empty_table()]
    for batch in scan(store.dataset(table), columns) if len(lost) else ():
        mask = among(row_keys(hasher, batch.column("source_md5")), lost)
        kept.append(pa.Table.from_batches([batch.filter(pa.array(mask))]).select(columns))
    return pa.concat_tables(kept)


def _lost_media(store: Connection, lost: np.ndarray) -> list[str]:
    """Return the ids of clips that have bytes and no row, or one of a lost source."""
    media, sorter, rows = store.dataset("media"), Sorter(CLIPS), [np.zeros(0, np.int64)]
    for records in _ids(store, lost):
        sorter.add(records)
    for records in sorter.parts():
        first = np.flatnonzero(begins(records))
        if len(first):
            has_clip = np.logical_or.reduceat(records["row"] == OF_CLIPS, first)
            without = ~np.repeat(has_clip, np.diff(first, append=len(records)))
            rows.append(records["row"][without])
    wanted = np.sort(np.concatenate(rows))
    return media._take_rows(wanted.tolist(), columns=["clip_id"]).column(0).to_pylist() if len(wanted) else []


def _ids(store: Connection, lost: np.ndarray) -> Iterator[np.ndarray]:
    """Yield CLIPS records: of clips whose source is not lost, and of media."""
    hasher = Hasher()
    for table in ("clips", "media"):
        columns = ["clip_id", "source_md5"] if table == "clips" and len(lost) else ["clip_id"]
        for batch in scan(store.dataset(table), columns):
            records = np.empty(len(batch), CLIPS)
            records["upper"], records["lower"] = hasher(batch.column("clip_id"))
            records["row"] = OF_CLIPS if table == "clips" else batch.column(ROW_ID).to_numpy().astype(np.int64)
            if "source_md5" in columns:
                records = records.compress(~among(row_keys(hasher, batch.column("source_md5")), lost))
            yield records
