"""Samples of micro-batches: precomputed ones read from the store, or made when they are wanted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelwright.curation.store import Store
from reelwright.curation.store.encoded import INLINE_BYTES, is_inline
from reelwright.training.data.buckets import Bucket
from reelwright.training.data.encode import Decode, Fingerprints, encode_frames, item_bytes, read_into
from reelwright.training.data.rows import caption_hash
from reelwright.training.data.schedule import Draw, Schedule, mix
from reelwright.training.errors import TrainError

if TYPE_CHECKING:
    from torch import Tensor

    from reelwright.model.codec import Codec
    from reelwright.model.text import TextEncoder


class Samples(Protocol):
    """Where latents and text states come from. Both methods may be called from several threads at once."""

    def latents(self, bucket: Bucket, draws: Sequence[Draw]) -> Tensor:
        """float32 [B, C, T, H, W]."""

    def states(self, captions: Sequence[str]) -> list[Tensor]:
        """float32 [L_i, D] for each caption."""


@dataclass(frozen=True)
class Missing:
    """Lacking rows of a schedule. latents: bucket -> rows of the schedule; captions: texts, each once."""

    latents: dict[Bucket, np.ndarray]
    captions: list[str]
    wanted: int  # latents, there or not
    wanted_captions: int

    @property
    def count(self) -> int:
        return sum(map(len, self.latents.values()))

    def __bool__(self) -> bool:
        return bool(self.count or self.captions)


class StoredSamples:
    """Rows of the tables `latents` and `texts`. Their places are looked up once; a batch is one fetch from each
    table."""

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
        for bucket, rows in self.schedule.wanted():
            wanted += len(rows)
            lacking = rows[self._find(bucket, rows) < 0]
            if len(lacking):
                latents[bucket] = lacking
        captions = self.schedule.captions()
        found = _search(self._texts, self._text_places, _numbers([caption_hash(c) for c in captions])) >= 0
        return Missing(latents, [c for c, here in zip(captions, found, strict=True) if not here], wanted, len(captions))

    def latents(self, bucket: Bucket, draws: Sequence[Draw]) -> Tensor:
        import torch

        distinct, which = np.unique([d.row for d in draws], return_inverse=True)
        found = self._find(bucket, distinct)
        if found.min() < 0:
            raise KeyError(f"no latents of clip {draws[int(np.flatnonzero(found < 0)[0])].clip_id} in {bucket.key}")
        bucket_cache = self._of_bucket[bucket.key]
        data = self.reader.tensors(found, inline=is_inline(bucket_cache.bytes))
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

        dtype = self.schedule.data.store_dtype
        states = torch.empty(len(data) // (item_bytes(dtype) * self._width), self._width)
        read_into(states.numpy(), data, dtype)
        return states

    def _find(self, bucket: Bucket, rows: np.ndarray) -> np.ndarray:
        """Places of the schedule's rows in a bucket, -1 where there is none."""
        bucket_cache = self._of_bucket.get(bucket.key)
        return _search(bucket_cache.rows, bucket_cache.places, rows) if bucket_cache else np.full(len(rows), -1)


@dataclass(frozen=True)
class _BucketCache:
    """Latents of one bucket: rows of the schedule, ascending, and their places; size and shape of each tensor."""

    rows: np.ndarray
    places: np.ndarray
    bytes: int
    shape: tuple[int, ...]


class FreshSamples:
    """Encoded when they are wanted, on the device of the codec: another window of the clip at every draw."""

    def __init__(
        self,
        media: Callable[[Sequence[str]], dict[str, bytes]],
        codec: Codec,
        text: TextEncoder,
        decode: Decode,
        *,
        unreadable: type[Exception] | tuple[()] = (),
    ):
        """media: mp4s of clips by id (`stored_media`). unreadable: what `decode` raises for a clip that is broken."""
        self.media, self.codec, self.text, self.decode = media, codec, text, decode
        self.unreadable = unreadable
        self._encoding = threading.Lock()  # networks are not for two threads at once; decoding goes on beside them

    def latents(self, bucket: Bucket, draws: Sequence[Draw]) -> Tensor:
        """Raises TrainError where a clip does not decode."""
        import torch

        mp4s = self.media([d.clip_id for d in draws])
        places = (mix(np.array([d.seed for d in draws], np.uint64)) / 2.0**64).tolist()
        out = []
        for draw, at in zip(draws, places, strict=True):
            frames = self._frames(draw.clip_id, mp4s[draw.clip_id], bucket, at)
            with self._encoding:
                out.append(encode_frames(frames, self.codec))
        return torch.stack(out)

    def states(self, captions: Sequence[str]) -> list[Tensor]:
        with self._encoding:
            return self.text.encode(captions)

    def _frames(self, clip_id: str, mp4: bytes, bucket: Bucket, at: float) -> np.ndarray:
        try:
            return self.decode(mp4, bucket, at).frames
        except self.unreadable as error:
            raise TrainError(
                f"clip {clip_id} does not decode ({error}); make a snapshot without it, or take data.encode: "
                "precomputed, as `reel precompute` passes over such clips"
            ) from error


def stored_media(store: Store, snapshot: str) -> Callable[[Sequence[str]], dict[str, bytes]]:
    """Reads the clips of a snapshot, as pinned, by id."""
    version = store.snapshots.show(snapshot).media_version
    return lambda ids: dict(store.read_media(list(dict.fromkeys(ids)), version=version))


def _by_bucket(keys: pa.Table, rows: np.ndarray, places: np.ndarray) -> dict[str, _BucketCache]:
    """Bucket key -> where its latents are. Of a row written twice the later one counts."""
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
