"""Samples of micro-batches as `reel precompute` left them in the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelwright.curation.store import Store
from reelwright.curation.store.encoded import INLINE_BYTES, is_inline
from reelwright.training.data.buckets import Bucket
from reelwright.training.data.encode import Fingerprints, read_into
from reelwright.training.data.rows import caption_hash
from reelwright.training.data.schedule import Draw, Schedule
from reelwright.training.data.windows import Window, drawn_windows, wanted_windows
from reelwright.training.recipe import EncodeConfig

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Samples(Protocol):
    """Where latents and text states come from. Both methods may be called from several threads at once.

    device: of the encoders, where there are some; None: what is returned is on the CPU.
    """

    @property
    def device(self) -> torch.device | None: ...

    def latents(self, bucket: Bucket, draws: Sequence[Draw]) -> Tensor:
        """Return float32 [B, C, T, H, W]."""

    def states(self, captions: Sequence[str]) -> list[Tensor]:
        """Return [L_i, D] for each caption, in the type that states are stored in."""


@dataclass(frozen=True)
class Missing:
    """Lacking rows of a schedule. latents: window -> rows of the schedule; captions: texts, each once."""

    latents: dict[Window, np.ndarray]
    captions: list[str]
    wanted: int  # latents, there or not
    wanted_captions: int

    @property
    def count(self) -> int:
        return sum(map(len, self.latents.values()))

    def __bool__(self) -> bool:
        return bool(self.count or self.captions)

    def stored_by(self, encode: EncodeConfig) -> Missing:
        """Return what of it a recipe wants in the store before it trains."""
        latents, text = encode.stored
        kept = (self.latents, self.wanted) if latents else ({}, 0)
        return Missing(kept[0], self.captions if text else [], kept[1], self.wanted_captions if text else 0)


class StoredSamples:
    """Rows of the tables `latents` and `texts`. Their places are looked up once; a batch is one fetch from each
    table."""

    device: torch.device | None = None

    def __init__(self, store: Store, schedule: Schedule, fingerprints: Fingerprints) -> None:
        self.schedule = schedule
        self.reader, self.text_reader = store.reader("latents"), store.reader("texts")
        mine = f"encoder_fingerprint = '{fingerprints.latents}'"
        keys, places = self.reader.keys(["clip_id", "bucket", "bytes", "shape"], mine)
        rows = pc.index_in(keys.column("clip_id"), value_set=schedule.clip_ids)
        self._of_bucket = _by_bucket(keys, rows.fill_null(-1).to_numpy(), places)
        texts, places = self.text_reader.keys(
            ["caption_hash", "bytes", "shape"], f"encoder_fingerprint = '{fingerprints.texts}'"
        )
        hashes = _numbers(texts.column("caption_hash").to_pylist())
        order = np.argsort(hashes, kind="stable")
        self._texts, self._text_places = hashes[order], places[order]
        self._text_bytes = texts.column("bytes").to_numpy()[order]
        self._width = texts.column("shape")[0].as_py()[1] if len(texts) else 0

    def missing(self) -> Missing:
        """What the schedule may draw and is not here."""
        latents, wanted = {}, 0
        for window, rows in wanted_windows(self.schedule):
            wanted += len(rows)
            lacking = rows[self._find(window, rows) < 0]
            if len(lacking):
                latents[window] = lacking
        captions = self.schedule.captions()
        found = _search(self._texts, self._text_places, _numbers([caption_hash(c) for c in captions])) >= 0
        return Missing(latents, [c for c, here in zip(captions, found, strict=True) if not here], wanted, len(captions))

    def latents(self, bucket: Bucket, draws: Sequence[Draw]) -> Tensor:
        import torch

        windows, places = drawn_windows(self.schedule, bucket, draws), np.empty(len(draws), np.int64)
        rows = np.array([d.row for d in draws])
        for window in set(windows):
            here = np.array([w == window for w in windows])
            places[here] = self._find(window, rows[here])
        if places.min() < 0:
            lost = int(places.argmin())
            raise KeyError(f"no latents of clip {draws[lost].clip_id} in {windows[lost].key}")
        distinct, which = np.unique(places, return_inverse=True)
        bucket_cache = self._of_bucket[windows[0].key]
        data = self.reader.tensors(distinct, inline=is_inline(bucket_cache.bytes))
        out = torch.empty(len(draws), *bucket_cache.shape)
        flat = out.numpy()
        for sample, i in enumerate(which.tolist()):
            read_into(flat[sample], data[i], self.schedule.data.store_dtype)
        return out

    def states(self, captions: Sequence[str]) -> list[Tensor]:
        distinct, which = np.unique(_numbers([caption_hash(c) for c in captions]), return_inverse=True)
        at = np.searchsorted(self._texts, distinct)
        if not len(self._texts) or (self._texts[np.minimum(at, len(self._texts) - 1)] != distinct).any():
            raise KeyError(f"no text states of one of the captions {list(captions)[:3]}")
        small = self._text_bytes[at] <= INLINE_BYTES
        out: list[Tensor] = [None] * len(at)
        for inline in (True, False):
            some = np.flatnonzero(small == inline)
            if len(some):
                for i, data in zip(
                    some, self.text_reader.tensors(self._text_places[at[some]], inline=inline), strict=True
                ):
                    out[i] = self._text(data)
        return [out[i] for i in which.tolist()]

    def _text(self, data: Any) -> Tensor:
        import torch

        from reelwright.model.dtypes import DTYPES

        return torch.frombuffer(bytearray(data), dtype=DTYPES[self.schedule.data.store_dtype]).view(-1, self._width)

    def _find(self, window: Window, rows: np.ndarray) -> np.ndarray:
        """Places of the schedule's rows in a window, -1 where there is none."""
        bucket_cache = self._of_bucket.get(window.key)
        return _search(bucket_cache.rows, bucket_cache.places, rows) if bucket_cache else np.full(len(rows), -1)


@dataclass(frozen=True)
class _BucketCache:
    """Latents of one window of a bucket: rows of the schedule, ascending, and their places; size and shape of each."""

    rows: np.ndarray
    places: np.ndarray
    bytes: int
    shape: tuple[int, ...]


def _by_bucket(keys: pa.Table, rows: np.ndarray, places: np.ndarray) -> dict[str, _BucketCache]:
    """Key of a window -> where its latents are. Of a row written twice the later one counts."""
    codes = keys.column("bucket").combine_chunks().dictionary_encode()
    numbers, out = codes.indices.to_numpy(zero_copy_only=False), {}
    for code, key in enumerate(codes.dictionary.to_pylist()):
        here = np.flatnonzero((numbers == code) & (rows >= 0))
        if len(here):
            order = here[np.argsort(rows[here], kind="stable")]
            last = order[np.append(rows[order][1:] != rows[order][:-1], True)]
            shape = tuple(keys.column("shape")[int(here[0])].as_py())
            out[key] = _BucketCache(rows[last], places[last], keys.column("bytes")[int(here[0])].as_py(), shape)
    return out


def _search(known: np.ndarray, places: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Place of each wanted key in `known` (ascending), -1 where it is not."""
    if not len(known):
        return np.full(len(wanted), -1)
    at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[at] == wanted, places[at], -1)


def _numbers(hashes: Sequence[str]) -> np.ndarray:
    """uint64 of caption hashes: 64 of their 128 bits, enough for a store's captions."""
    return np.array([int(h[:16], 16) for h in hashes], np.uint64)
