"""Where the latents and text states of a plan's clips lie in the store: looked up once per run, mapped by all ranks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelwright.curation.keys.row_order import rows_in_order
from reelwright.curation.keys.scratch import duckdb_on_disk
from reelwright.training.data.mapped import map_table, write_table
from reelwright.training.data.spool import Spool, forget, stretches

if TYPE_CHECKING:
    from reelwright.curation.store import Store
    from reelwright.curation.store.encoded import Reader
    from reelwright.training.data.encode import Fingerprints

LATENTS, TEXTS = "latents.arrow", "texts.arrow"
NOTE = "reelwright.samples"
LATENTS_SCHEMA = pa.schema([("row", pa.int64()), ("place", pa.int64())])
TEXTS_SCHEMA = pa.schema([("hash", pa.uint64()), ("place", pa.int64()), ("bytes", pa.int64())])
MEMORY_LIMIT = "512MB"  # of the join of clips and latents
BATCH_ROWS = 65_536


@dataclass(frozen=True)
class WindowPlaces:
    """Latents of one window of a bucket: rows of the plan, ascending, and their places; size and shape of each."""

    rows: np.ndarray
    places: np.ndarray
    bytes: int
    shape: tuple[int, ...]

    def find(self, rows: np.ndarray) -> np.ndarray:
        """Return the places of rows of the plan, -1 where there is none."""
        return _search(self.rows, self.places, rows)


@dataclass(frozen=True)
class SampleIndex:
    """Places of samples in two tables at the versions that they had.

    windows: key of a window -> where its latents are. hashes: 64 of the 128 bits of captions' hashes, ascending, enough
    for a store's captions; text_places, text_bytes: of each. width: of the text states.
    """

    versions: tuple[int, int]
    windows: dict[str, WindowPlaces]
    hashes: np.ndarray
    text_places: np.ndarray
    text_bytes: np.ndarray
    width: int

    def find_texts(self, hashes: np.ndarray) -> np.ndarray:
        """Return the ranks of captions among those of the index, -1 where there is none."""
        return _search(self.hashes, np.arange(len(self.hashes)), hashes)

    def write(self, folder: Path) -> None:
        """Write two files that `read` maps."""
        spool, told = Spool(LATENTS_SCHEMA), []
        for key, found in self.windows.items():
            first = spool.rows
            for here in stretches(len(found.rows)):
                spool.add(pa.record_batch([found.rows[here], found.places[here]], schema=LATENTS_SCHEMA))
            told.append({"key": key, "first": first, "last": spool.rows, "bytes": found.bytes, "shape": [*found.shape]})
        write_table(spool.table(), folder / LATENTS, NOTE, {"version": self.versions[0], "windows": told})
        texts = pa.table({"hash": self.hashes, "place": self.text_places, "bytes": self.text_bytes})
        write_table(texts, folder / TEXTS, NOTE, {"version": self.versions[1], "width": self.width})

    @classmethod
    def read(cls, folder: Path) -> SampleIndex:
        """Map what `write` wrote."""
        (latents, of_latents), (texts, of_texts) = (map_table(folder / name, NOTE) for name in (LATENTS, TEXTS))
        rows, places = (_numpy(latents, name) for name in ("row", "place"))
        windows = {
            one["key"]: WindowPlaces(
                rows[one["first"] : one["last"]], places[one["first"] : one["last"]], one["bytes"], tuple(one["shape"])
            )
            for one in of_latents["windows"]
        }
        hashes, text_places, text_bytes = (_numpy(texts, name) for name in ("hash", "place", "bytes"))
        versions = (of_latents["version"], of_texts["version"])
        return cls(versions, windows, hashes, text_places, text_bytes, of_texts["width"])


def index_samples(store: Store, clip_ids: pa.Array, fingerprints: Fingerprints) -> SampleIndex:
    """Look up what the store holds for clips, on disk where that is much: one pass over the keys of either table."""
    reader, text_reader = store.reader("latents"), store.reader("texts")
    windows = _windows(reader, clip_ids, f"encoder_fingerprint = '{fingerprints.latents}'")
    texts, width = _texts(text_reader, f"encoder_fingerprint = '{fingerprints.texts}'")
    hashes, places, sizes = (_numpy(texts, name) for name in TEXTS_SCHEMA.names)
    return SampleIndex((reader.version, text_reader.version), windows, hashes, places, sizes, width)


def numbers_of(hashes: pa.ChunkedArray | pa.Array | Sequence[str]) -> np.ndarray:
    """Return uint64 of caption hashes, 16 bytes or 32 hex digits each: their first 64 bits."""
    if not isinstance(hashes, pa.ChunkedArray):
        hashes = pa.chunked_array([hashes if isinstance(hashes, pa.Array) else pa.array(list(hashes), pa.string())])
    return np.concatenate([np.empty(0, np.uint64), *map(_first_bits, hashes.chunks)])


def _first_bits(hashes: pa.Array) -> np.ndarray:
    size = 16 if pa.types.is_string(hashes.type) or pa.types.is_large_string(hashes.type) else 8
    begins = pc.binary_slice(hashes.cast(pa.large_binary()), 0, size)
    data = np.frombuffer(begins.buffers()[2] or b"", np.uint8, size * len(hashes))
    if size == 16:
        digits = np.where(data > ord("9"), data - ord("a") + 10, data - ord("0")).reshape(-1, 2)
        data = (digits[:, 0] << 4 | digits[:, 1]).astype(np.uint8)
    return data.view(">u8").astype(np.uint64)


def _numpy(table: pa.Table, name: str) -> np.ndarray:
    return table.column(name).chunk(0).to_numpy() if len(table) else table.column(name).to_numpy()


def _windows(reader: Reader, clip_ids: pa.Array, condition: str) -> dict[str, WindowPlaces]:
    """Key of a window -> where its latents are."""
    seen: dict[str, tuple[int, int, tuple[int, ...]]] = {}  # number, bytes and shape of each window

    def clips() -> Iterator[pa.RecordBatch]:
        for here in stretches(len(clip_ids)):
            some = clip_ids.slice(here.start, here.stop - here.start).cast(pa.string())
            yield pa.record_batch([some, pa.array(np.arange(here.start, here.stop))], schema=of_clips)

    def latents() -> Iterator[pa.RecordBatch]:
        for keys, places in reader.keys(["clip_id", "bucket", "bytes", "shape"], condition):
            codes = keys.column("bucket").dictionary_encode()
            numbers = np.empty(len(codes.dictionary), np.int64)
            for code, key in enumerate(codes.dictionary.to_pylist()):
                if key not in seen:
                    one = pc.index(codes.indices, code).as_py()
                    seen[key] = len(seen), keys.column("bytes")[one].as_py(), (*keys.column("shape")[one].as_py(),)
                numbers[code] = seen[key][0]
            window = numbers[codes.indices.to_numpy(zero_copy_only=False)]
            yield pa.record_batch([keys.column("clip_id"), pa.array(window), pa.array(places)], schema=of_latents)

    of_clips = pa.schema([("clip_id", pa.string()), ("clip", pa.int64())])
    of_latents = pa.schema([("clip_id", pa.string()), ("bucket", pa.int64()), ("place", pa.int64())])
    spool, counts = Spool(LATENTS_SCHEMA), np.zeros(0, np.int64)
    with duckdb_on_disk(MEMORY_LIMIT, "reel-samples-") as con:
        con.register("clips", pa.RecordBatchReader.from_batches(of_clips, clips()))
        con.register("latents", pa.RecordBatchReader.from_batches(of_latents, latents()))
        found = con.sql(  # of a row that was written twice the later one counts
            "SELECT bucket, clip, max(place) FROM latents JOIN clips USING (clip_id) GROUP BY ALL ORDER BY bucket, clip"
        )
        for batch in found.to_arrow_reader(BATCH_ROWS):
            more = np.bincount(batch.column(0).to_numpy(), minlength=len(seen))
            counts = more + np.pad(counts, (0, len(more) - len(counts)))
            spool.add(pa.record_batch(batch.columns[1:], schema=LATENTS_SCHEMA))
            forget()
    rows, places = (_numpy(spool.table(), name) for name in LATENTS_SCHEMA.names)
    ends = np.cumsum(counts)
    return {
        key: WindowPlaces(rows[ends[n] - counts[n] : ends[n]], places[ends[n] - counts[n] : ends[n]], size, shape)
        for key, (n, size, shape) in seen.items()
        if n < len(counts) and counts[n]
    }


def _texts(reader: Reader, condition: str) -> tuple[pa.Table, int]:
    """(hash, place and bytes of all states, by hash; their width)."""
    width = 0

    def texts() -> Iterator[pa.RecordBatch]:
        nonlocal width
        for keys, places in reader.keys(["caption_hash", "bytes", "shape"], condition):
            if len(keys) and not width:
                width = keys.column("shape")[0].as_py()[1]
            hashes, sizes = numbers_of(keys.column("caption_hash")), keys.column("bytes").cast(pa.int64())
            yield pa.record_batch([pa.array(hashes), pa.array(places), sizes], schema=TEXTS_SCHEMA)

    spool = Spool(TEXTS_SCHEMA)
    for batch in rows_in_order(texts(), TEXTS_SCHEMA, ["hash", "place"]):
        spool.add(batch)
        forget()
    return spool.table(), width


def _search(known: np.ndarray, places: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Place of each wanted key in `known` (ascending), -1 where it is not."""
    if not len(known):
        return np.full(len(wanted), -1)
    at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[at] == wanted, places[at], -1)
