"""Where the latents and text states of a plan's clips lie in the store: looked up once per run, mapped by all ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelwright.training.data.mapped import map_table, write_table

if TYPE_CHECKING:
    from reelwright.curation.store import Store
    from reelwright.training.data.encode import Fingerprints

LATENTS, TEXTS = "latents.arrow", "texts.arrow"
NOTE = "reelwright.samples"


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
        parts, told, first = [], [], 0
        for key, found in self.windows.items():
            last = first + len(found.rows)
            told.append({"key": key, "first": first, "last": last, "bytes": found.bytes, "shape": list(found.shape)})
            parts.append(pa.table({"row": found.rows, "place": found.places}))
            first = last
        empty = pa.table({"row": np.empty(0, np.int64), "place": np.empty(0, np.int64)})
        write_table(
            pa.concat_tables([empty, *parts]), folder / LATENTS, NOTE, {"version": self.versions[0], "windows": told}
        )
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
    """Look up what the store holds for clips: one pass over the keys of `latents` and `texts`."""
    reader, text_reader = store.reader("latents"), store.reader("texts")
    keys, places = reader.keys(
        ["clip_id", "bucket", "bytes", "shape"], f"encoder_fingerprint = '{fingerprints.latents}'"
    )
    rows = pc.index_in(keys.column("clip_id").cast(clip_ids.type), value_set=clip_ids).fill_null(-1).to_numpy()
    texts, text_places = text_reader.keys(
        ["caption_hash", "bytes", "shape"], f"encoder_fingerprint = '{fingerprints.texts}'"
    )
    hashes = numbers_of(texts.column("caption_hash"))
    order = np.argsort(hashes, kind="stable")
    width = texts.column("shape")[0].as_py()[1] if len(texts) else 0
    return SampleIndex(
        (reader.version, text_reader.version), _by_window(keys, rows, places),
        hashes[order], text_places[order], texts.column("bytes").to_numpy()[order].astype(np.int64), width,
    )  # fmt: skip


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


def _by_window(keys: pa.Table, rows: np.ndarray, places: np.ndarray) -> dict[str, WindowPlaces]:
    """Key of a window -> where its latents are. Of a row written twice the later one counts."""
    codes = keys.column("bucket").combine_chunks().dictionary_encode()
    numbers, out = codes.indices.to_numpy(zero_copy_only=False), {}
    for code, key in enumerate(codes.dictionary.to_pylist()):
        here = np.flatnonzero((numbers == code) & (rows >= 0))
        if len(here):
            order = here[np.argsort(rows[here], kind="stable")]
            last = order[np.append(rows[order][1:] != rows[order][:-1], True)]
            shape = tuple(keys.column("shape")[int(here[0])].as_py())
            out[key] = WindowPlaces(
                rows[last].astype(np.int64), places[last].astype(np.int64),
                keys.column("bytes")[int(here[0])].as_py(), shape,
            )  # fmt: skip
    return out


def _search(known: np.ndarray, places: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Place of each wanted key in `known` (ascending), -1 where it is not."""
    if not len(known):
        return np.full(len(wanted), -1)
    at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[at] == wanted, places[at], -1)
