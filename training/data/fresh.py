"""Samples that are encoded while training, at each draw or at the first one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from reelwright.curation.store import Store
from reelwright.training.data.buckets import Bucket
from reelwright.training.data.disk_cache import DiskCache
from reelwright.training.data.encode import Decode, Fingerprints, encode_frames, item_bytes, to_bytes
from reelwright.training.data.latents import Samples, StoredSamples
from reelwright.training.data.mix_rows import media_reader, media_versions
from reelwright.training.data.pairs import HALVES, PairMaker, stored_seed
from reelwright.training.data.rows import caption_hash
from reelwright.training.data.schedule import Draw, Schedule, mix
from reelwright.training.data.windows import Window, drawn_windows
from reelwright.training.errors import TrainError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from reelwright.model.codec import Codec
    from reelwright.model.text import TextEncoder


class FreshSamples:
    """Encoded when they are wanted, on the device of the encoders: another window of the clip at every draw.

    Threads decode side by side. A network is used by one thread at a time, as it keeps what it has just seen; on a GPU
    that is the time to launch its kernels, since no thread waits for them here: each thread's own stream
    (`side_stream`) runs them beside the training.
    """

    def __init__(
        self,
        media: Callable[[Sequence[str]], dict[str, bytes]],
        codec: Codec | None,
        text: TextEncoder | None,
        decode: Decode,
        *,
        store_dtype: str = "fp32",
        unreadable: type[Exception] | tuple[()] = (),
        pairs: PairMaker | None = None,
    ):
        """Take the parts.

        Args:
            media: mp4s of clips by id (`stored_media`).
            codec: None where latents are not wanted.
            text: None where text states are not wanted.
            decode: windows of an mp4.
            store_dtype: type of the states, as if they had been stored.
            unreadable: exceptions that `decode`, or the video codec of a pair's degradations, raises for a clip.
            pairs: makes pairs of clips; None: latents of the clips alone.
        """
        self.media, self.codec, self.text, self.decode = media, codec, text, decode
        self.store_dtype, self.unreadable, self.pairs = store_dtype, unreadable, pairs
        self._codec_lock, self._text_lock = threading.Lock(), threading.Lock()

    @property
    def device(self) -> torch.device | None:
        """Device of the encoders; None where there are none."""
        encoder = self.codec or self.text
        return encoder.device if encoder else None

    def latents(self, bucket: Bucket, draws: Sequence[Draw], *, windows: Sequence[Window] | None = None) -> Tensor:
        """Encode a window of each draw's clip, float32 [B, C, T, H, W]; of pairs, [B, 2 C, T, H, W].

        Args:
            bucket: size and frames of a window.
            draws: of the clips.
            windows: as they would be stored, and pairs as they would be; by default both follow the draws' seeds.

        Raises:
            TrainError: a clip does not decode.
        """
        import torch

        assert self.codec is not None
        mp4s = self.media([d.clip_id for d in draws])
        positions = (mix(np.array([d.seed for d in draws], np.uint64)) / 2.0**64).tolist()
        out = []
        for i, draw in enumerate(draws):
            at = float(windows[i].place) if windows else positions[i]
            frames = self._frames(draw.clip_id, mp4s[draw.clip_id], bucket, at)
            if self.pairs is None:
                with self._codec_lock:
                    out.append(encode_frames(frames, self.codec))
                continue
            seed = stored_seed(self.pairs.config, draw.clip_id, windows[i].key) if windows else draw.seed
            with self._readable(draw.clip_id):
                low = self.pairs.first_stage(frames, bucket, seed)
            with self._codec_lock:
                out.append(self.pairs.encode(frames, low, bucket, self.codec))
        return torch.stack(out)

    def states(self, captions: Sequence[str]) -> list[Tensor]:
        """Encode captions, each that occurs more than once only once."""
        from reelwright.model.dtypes import DTYPES

        assert self.text is not None
        distinct = list(dict.fromkeys(captions))
        with self._text_lock:
            made = self.text.encode(distinct)
        found = dict(zip(distinct, (states.to(DTYPES[self.store_dtype]) for states in made), strict=True))
        return [found[caption] for caption in captions]

    def _frames(self, clip_id: str, mp4: bytes, bucket: Bucket, at: float) -> np.ndarray:
        with self._readable(clip_id):
            return self.decode(mp4, bucket, at).frames

    @contextmanager
    def _readable(self, clip_id: str) -> Iterator[None]:
        """Say what to do about a clip that does not decode, or whose first stage goes through no video codec."""
        try:
            yield
        except self.unreadable as error:
            raise TrainError(
                f"clip {clip_id} does not decode ({error}); make a snapshot without it, or take data.encode: "
                "precomputed, as `reel precompute` passes over such clips"
            ) from error


class CachedSamples:
    """Encoded at the first draw of a window or caption, then read from a disk: as precomputed, to the bit."""

    def __init__(self, fresh: FreshSamples, cache: DiskCache, schedule: Schedule, fingerprints: Fingerprints) -> None:
        self.fresh, self.cache, self.schedule, self.fingerprints = fresh, cache, schedule, fingerprints

    @property
    def device(self) -> torch.device | None:
        """Device of the encoders."""
        return self.fresh.device

    def latents(self, bucket: Bucket, draws: Sequence[Draw]) -> Tensor:
        """Return the latents of the window that each draw shows, float32 [B, C, T, H, W], on the CPU."""
        import torch

        windows = drawn_windows(self.schedule, bucket, draws)
        keys = [f"{self.fingerprints.latents} {d.clip_id} {w.key}" for d, w in zip(draws, windows, strict=True)]
        shape = (self._channels, *bucket.latent)
        size = int(np.prod(shape)) * item_bytes(self.schedule.data.store_dtype)
        found = {key: self.cache.get(key, size) for key in keys}
        new = [i for i, key in enumerate(keys) if found[key] is None]
        if new:
            made = self.fresh.latents(bucket, [draws[i] for i in new], windows=[windows[i] for i in new])
            for i, latents in zip(new, made, strict=True):
                found[keys[i]] = self._keep(keys[i], latents)
        return torch.stack([self._tensor(found[key], *shape).float() for key in keys])

    def states(self, captions: Sequence[str]) -> list[Tensor]:
        """Return [L_i, D] for each caption, in the stored type, on the CPU."""
        keys = [f"{self.fingerprints.texts} {caption_hash(caption)}" for caption in captions]
        found = {key: self.cache.get(key) for key in keys}
        new = {key: caption for key, caption in zip(keys, captions, strict=True) if not found[key]}
        if new:
            for key, states in zip(new, self.fresh.states(list(new.values())), strict=True):
                found[key] = self._keep(key, states)
        return [self._tensor(found[key], -1, self._text_width) for key in keys]

    @property
    def _channels(self) -> int:
        assert self.fresh.codec is not None
        return self.fresh.codec.channels * (HALVES if self.fresh.pairs else 1)

    @property
    def _text_width(self) -> int:
        assert self.fresh.text is not None
        return self.fresh.text.dim

    def _keep(self, key: str, tensor: Tensor) -> bytes:
        data = to_bytes(tensor, self.schedule.data.store_dtype)
        self.cache.put(key, data)
        return data

    def _tensor(self, data: bytes | None, *shape: int) -> Tensor:
        import torch

        from reelwright.model.dtypes import DTYPES

        assert data is not None
        return torch.frombuffer(bytearray(data), dtype=DTYPES[self.schedule.data.store_dtype]).view(shape)


class MixedSamples:
    """Latents from one place, text states from another."""

    def __init__(self, latents: Samples, states: Samples) -> None:
        self.latents, self.states = latents.latents, states.states
        self.device = latents.device or states.device


def samples_of(
    stored: Callable[[], StoredSamples], fresh: FreshSamples | None, schedule: Schedule, fingerprints: Fingerprints
) -> Samples:
    """Return the samples of a recipe, from where its `data.encode` says.

    Args:
        stored: makes the reader of the store, and refuses a store that lacks something.
        fresh: encoders, for whatever is not precomputed; None: everything is.
        schedule: of the run.
        fingerprints: of the recipe's encoders.
    """
    encode = schedule.data.encode
    if fresh is None:
        return stored()
    sources: dict[str, Samples] = {"on_the_fly": fresh}
    if "precomputed" in (encode.latents, encode.text):
        sources["precomputed"] = stored()
    if "cached" in (encode.latents, encode.text):
        cache = DiskCache(encode.cache_dir, gib=encode.cache_gib)
        sources["cached"] = CachedSamples(fresh, cache, schedule, fingerprints)
    return MixedSamples(sources[encode.latents], sources[encode.text])


def stored_media(store: Store, *snapshots: str) -> Callable[[Sequence[str]], dict[str, bytes]]:
    """Return a function that reads the clips of snapshots, as pinned, by id: of several, as the newest has them."""
    return media_reader(store, media_versions(map(store.snapshots.show, snapshots)))
