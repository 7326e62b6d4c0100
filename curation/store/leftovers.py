"""Leftovers of a killed run, looked for among the rows that came since a finished run, which left none.

A row that was there then can be a leftover for two reasons: its source is ok no more, which the index of sources
notes, or its clip was deleted. After the latter, or where the last look is not known, all rows are looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelwright.curation.keys.hashing import Hasher
from reelwright.curation.keys.sorted_keys import KEY
from reelwright.curation.store.connection import Connection
from reelwright.curation.store.known_index import KnownIndex
from reelwright.curation.store.known_kept import keep, up_to_date
from reelwright.curation.store.leftovers_of_all import leftovers_of_all
from reelwright.curation.store.maintenance import Orphans
from reelwright.curation.store.row_keys import among, row_keys
from reelwright.curation.store.row_marks import ROW_ID, Changes, Mark, changes, fresh_rows, scan
from reelwright.curation.store.sql_text import is_one_of

TABLES = ("clips", "shots", "media")
IDS_A_READ = 1000


def leftovers(store: Connection, index: KnownIndex) -> Orphans:
    """Return what `orphans` finds. index: of the sources as they are."""
    if set(index.checked) != set(TABLES):
        return leftovers_of_all(store, index)
    since = {table: changes(store.dataset(table), index.checked[table]) for table in TABLES}
    if len(since["clips"].gone):  # perhaps not their bytes
        return leftovers_of_all(store, index)
    were_ok = index.lost[~index.are_good(index.lost)]  # some may be ok again
    clips, kept = _lost(store, index, "clips", ["source_md5", "clip_id"], since["clips"], were_ok)
    shots, _ = _lost(store, index, "shots", ["source_md5"], since["shots"], were_ok)
    md5s = {md5 for rows in (clips, shots) for md5 in rows.column("source_md5").to_pylist() if md5 is not None}
    lost = clips.column("clip_id").to_pylist()
    media = _lost_media(store, since["media"], lost, kept.column("clip_id"))
    return Orphans(sorted(md5s), sorted({*lost, *media}), clips.num_rows, shots.num_rows, len(media))


def note_finished(store: Connection, cutting: str = "") -> None:
    """Note that there are no leftovers, as a run has just finished. A store without an index keeps no such note.

    cutting: fingerprint of the settings by which the run cut.
    """
    index, _ = up_to_date(store, cutting)
    if index.shelf is None:
        return
    index.lost = index.lost[:0]
    index.checked = {table: changes(store.dataset(table), Mark()).now for table in TABLES}
    with suppress(OSError):  # no room for it: the next run looks at more
        keep(index, index.shelf)


def _lost(
    store: Connection, index: KnownIndex, table: str, columns: list[str], since: Changes, were_ok: np.ndarray
) -> tuple[pa.Table, pa.Table]:
    """Return the rows of a table whose source is not ok, and the new ones whose source is.

    were_ok: KEY records, MD5s of sources that were ok and are not.
    """
    hasher, nothing = Hasher(), pa.schema([store.schema(table).field(name) for name in columns]).empty_table()
    lost, kept = [nothing], [nothing]
    for batch in fresh_rows(store.dataset(table), since, columns):
        good = _are_good(index, row_keys(hasher, batch.column("source_md5")))
        for into, mask in ((lost, ~good), (kept, good)):
            into.append(pa.Table.from_batches([batch.filter(pa.array(mask))]).select(columns))
    if len(were_ok):
        for batch in scan(store.dataset(table), columns):
            keys = row_keys(hasher, batch.column("source_md5"))
            mask = among(keys, were_ok) & ~since.added.has(batch.column(ROW_ID).to_numpy())
            lost.append(pa.Table.from_batches([batch.filter(pa.array(mask))]).select(columns))
    return pa.concat_tables(lost), pa.concat_tables(kept)


def _lost_media(store: Connection, since: Changes, lost: Sequence[str], kept: pa.ChunkedArray) -> set[str]:
    """Return the clips that have bytes and are lost, or are no clips. lost: clips of `_lost`. kept: other new ones."""
    added = [batch.column("clip_id") for batch in fresh_rows(store.dataset("media"), since, ["clip_id"])]
    ids = pa.chunked_array(added, pa.string())
    rest = set(ids.filter(pc.invert(pc.is_in(ids, value_set=kept.cast(pa.string())))).to_pylist())
    known = {clip for some in _chunks(sorted(rest)) for clip in _having(store, "clips", some)}
    return (rest - (known - set(lost))) | {clip for some in _chunks(lost) for clip in _having(store, "media", some)}


def _are_good(index: KnownIndex, keys: np.ndarray) -> np.ndarray:
    """Return bool [N]: whether a source that is ok has this MD5, KEY [N]; zeros are for none."""
    each, of = np.unique(keys, return_inverse=True)
    return np.asarray(index.are_good(each)[of] & (keys != np.zeros((), KEY)))


def _having(store: Connection, table: str, ids: Sequence[str]) -> list[str]:
    return store.read(table, ["clip_id"], filter=is_one_of("clip_id", ids)).column(0).to_pylist()


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + IDS_A_READ] for start in range(0, len(ids), IDS_A_READ))
