"""Clip bytes: written by workers as uncommitted fragments, committed by one process, read back in batches by id."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from reelwright.curation.store import fragments as fragment_files
from reelwright.curation.store.datasets import STORAGE_VERSION, Dataset, open_dataset
from reelwright.curation.store.errors import StoreError
from reelwright.curation.store.schema import table_of
from reelwright.curation.store.sql_text import is_one_of

BATCH_BYTES = 64 * 2**20
LOOKUP_IDS = 2_000  # ids a look-up: one `IN` list
MISSING = {
    "media": "clip {} has no media in this version of the store; curate its source again.",
    "generation_media": "generation {} has no video in the store: it failed, or is not there; see: reel sql "
    "\"select generation_id, state, error from generations\"",
}
"""Table -> the sentence about an id that it lacks."""
PACK_BYTES = 2**30  # bytes of one blob side file


def write_fragments(uri: str, clip_ids: Sequence[str], mp4s: Sequence[bytes], options: dict[str, str] | None) -> str:
    """Write clips to files of the media dataset at `uri` without committing them; returns JSON for `commit`."""
    import lance
    from lance.fragment import write_fragments

    if len(clip_ids) != len(mp4s):
        raise StoreError(f"{len(clip_ids)} clip ids came with {len(mp4s)} mp4 files; hand one file for each id.")
    if not clip_ids:
        return "[]"
    if not all(clip_ids):
        raise StoreError("a clip for media has no clip_id; every clip needs one.")
    columns = [
        pa.array(clip_ids, pa.string()),
        pa.array([len(m) for m in mp4s], pa.int64()),
        lance.blob_array(list(mp4s)),
    ]
    rows = pa.Table.from_arrays(columns, schema=table_of("media").schema)
    there = open_dataset(uri, options)  # Lance would open it, too, and count nothing
    fragments: Any = write_fragments(
        rows, uri if there is None else there, mode="append", data_storage_version=STORAGE_VERSION,
        storage_options=options,
    )  # fmt: skip
    fragment_files.refuse_short(uri, fragments, map(len, mp4s))
    return json.dumps([fragment.to_json() for fragment in fragments])


def commit(dataset: Dataset, fragments: Iterable[str]) -> None:
    """Make fragments from `write_fragments` part of the table, in one commit."""
    from lance.fragment import FragmentMetadata

    metadata = [FragmentMetadata.from_json(json.dumps(one)) for text in fragments for one in json.loads(text)]
    if metadata:
        fragment_files.append(dataset, metadata)


def read(
    dataset: Dataset, clip_ids: Iterable[str], batch_bytes: int = BATCH_BYTES, *, table: str = "media"
) -> Iterator[tuple[str, bytes]]:
    """Yield (clip_id, mp4) in the order of `clip_ids`, holding about `batch_bytes` at a time.

    Args:
        dataset: of the table.
        clip_ids: values of the table's key.
        batch_bytes: in memory at a time.
        table: media, or another of its form.

    Raises:
        StoreError: an id has no media.
    """
    for ids in _chunks(clip_ids, LOOKUP_IDS):
        found = locate(dataset, ids, table)
        for one in ids:
            if one not in found:
                raise StoreError(MISSING[table].format(one))
        yield from _read_located(dataset, [(one, *found[one]) for one in ids], batch_bytes)


@dataclass(frozen=True)
class OpenClip:
    """A clip's mp4 in the store, of which any part can be read. size: bytes."""

    clip_id: str
    size: int
    _blob: Any

    def read(self, start: int, count: int) -> bytes:
        """Return `count` bytes from `start` on, straight from the file that holds them."""
        return bytes(self._blob.read_range(start, count)) if count else b""


def open_clip(dataset: Dataset, clip_id: str) -> OpenClip:
    """Open one clip for reading by parts. Raises StoreError for an id that has no media."""
    found = locate(dataset, [clip_id])
    if clip_id not in found:
        raise StoreError(f"clip {clip_id} has no media in this version of the store; curate its source again.")
    (blob,) = dataset.take_blobs("mp4", ids=[found[clip_id][0]])
    return OpenClip(clip_id, found[clip_id][1], blob)


def locate(dataset: Dataset, ids: Sequence[str], table: str = "media") -> dict[str, tuple[int, int]]:
    """Return clip_id -> (row id, bytes) for each of `ids` that the table holds."""
    if not ids:
        return {}
    key = table_of(table).key or ""
    rows = dataset.to_table(columns=[key, "size"], filter=is_one_of(key, ids), with_row_id=True)
    columns = (rows.column(name).to_pylist() for name in (key, "_rowid", "size"))
    return {clip_id: (row_id, size) for clip_id, row_id, size in zip(*columns, strict=True)}


def _read_located(dataset: Dataset, rows: list[tuple[str, int, int]], batch_bytes: int) -> Iterator[tuple[str, bytes]]:
    for batch in _by_bytes(rows, batch_bytes):
        blobs = dataset.read_blobs("mp4", ids=[row_id for _, row_id, _ in batch], preserve_order=True)
        if len(blobs) != len(batch):
            raise StoreError(
                f"{len(batch)} clips were asked for and {len(blobs)} came back; restore media from a backup."
            )
        for (clip_id, _, _), (_, data) in zip(batch, blobs, strict=True):
            yield clip_id, data or b""


def _by_bytes(rows: list[tuple[str, int, int]], batch_bytes: int) -> Iterator[list[tuple[str, int, int]]]:
    batch: list[tuple[str, int, int]] = []
    total = 0
    for row in rows:
        if batch and total + row[2] > batch_bytes:
            yield batch
            batch, total = [], 0
        batch.append(row)
        total += row[2]
    if batch:
        yield batch


def _chunks(ids: Iterable[str], size: int) -> Iterator[list[str]]:
    chunk: list[str] = []
    for one in ids:
        chunk.append(one)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
