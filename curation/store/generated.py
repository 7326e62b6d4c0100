"""Videos that evaluations made: rows of `generations` and their bytes in `generation_media`, committed together.

Two tables, so that measures can add columns to `generations` as annotators do to `clips`, and no merge or compaction of
those columns moves a video. The bytes are committed first and hold their row as JSON: a run that is killed between the
two commits is completed from it, so nothing is made twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from reelwright.curation.store import clip_media, datasets, fragments
from reelwright.curation.store.connection import Connection
from reelwright.curation.store.errors import StoreError
from reelwright.curation.store.schema import table_of
from reelwright.curation.store.sql_text import is_one_of

ROWS, MEDIA = "generations", "generation_media"


def add(store: Connection, rows: Sequence[dict[str, Any]], mp4s: Mapping[str, bytes]) -> None:
    """Commit the videos, then their rows and those of failures. Raises StoreError for a video without a row."""
    of_id = {row["generation_id"]: row for row in rows}
    if extra := mp4s.keys() - of_id.keys():
        raise StoreError(f"a video came without its row of generations: {min(extra)}.")
    if mp4s:
        _append_media(store, [(name, mp4, json.dumps(of_id[name], default=_text)) for name, mp4 in mp4s.items()])
    if rows:
        store.append(ROWS, list(rows))


def complete(store: Connection) -> int:
    """Add the rows of videos that have none; return their number."""
    ids, have = (store.read(table, ["generation_id"]).column(0) for table in (MEDIA, ROWS))
    lost = ids.filter(pc.invert(pc.is_in(ids, value_set=have))).to_pylist()
    if lost:  # of one commit: few
        records = store.read(MEDIA, ["record"], is_one_of("generation_id", lost)).column(0).to_pylist()
        store.append(ROWS, [_row(json.loads(record)) for record in records])
    return len(lost)


def index(store: Connection) -> None:
    """Bring the index of ids up to date: a run leaves a small file per commit, and a look-up reads those outside it."""
    with store.writing(MEDIA) as dataset:
        if any(found["name"] == f"{table_of(MEDIA).key}_idx" for found in dataset.list_indices()):
            dataset.optimize.optimize_indices()


class Video:
    """The mp4 of one generation, read in ranges without the rest of it."""

    def __init__(self, store: Connection, generation_id: str) -> None:
        dataset = store.dataset(MEDIA)
        found = clip_media.locate(dataset, [generation_id], MEDIA)
        if generation_id not in found:
            raise StoreError(clip_media.MISSING[MEDIA].format(generation_id))
        row, self.size = found[generation_id]
        [self._blob] = dataset.take_blobs("mp4", ids=[row])

    def read_range(self, start: int, length: int) -> bytes:
        """Return `length` bytes from `start`; fewer where the video ends before."""
        length = max(0, min(length, self.size - start))
        return self._blob.read_range(start, length) if length else b""


def _append_media(store: Connection, videos: Sequence[tuple[str, bytes, str]]) -> None:
    import lance
    from lance.fragment import write_fragments

    with store.writing(MEDIA) as dataset:
        ids, mp4s, records = (list(column) for column in zip(*videos, strict=True))
        columns = {
            "generation_id": pa.array(ids, pa.string()),
            "size": pa.array([len(mp4) for mp4 in mp4s], pa.int64()),
            "record": pa.array(records, pa.string()),
            "mp4": lance.blob_array(mp4s),
        }
        schema = table_of(MEDIA).schema
        table = pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)
        uri = store.table_uri(MEDIA)
        written: Any = write_fragments(
            table, dataset, mode="append", data_storage_version=datasets.STORAGE_VERSION,
            storage_options=store.storage_options,
        )  # fmt: skip
        fragments.refuse_short(uri, written, map(len, mp4s))
        fragments.append(dataset, written)
        datasets.keep_index_fresh(store.dataset(MEDIA), MEDIA)


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{value!r} is not JSON")


def _row(record: dict[str, Any]) -> dict[str, Any]:
    return {**record, "at": datetime.fromisoformat(record["at"])} if record.get("at") else record
