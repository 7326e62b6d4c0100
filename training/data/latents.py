"""Samples of micro-batches as `reel precompute` left them in the store."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa

from reelwright.curation.store import Store
from reelwright.curation.store.encoded import INLINE_BYTES, is_inline
from reelwright.training.data.buckets import Bucket
from reelwright.training.data.distinct import each_once_in_order
from reelwright.training.data.encode import Fingerprints, read_into
from reelwright.training.data.rows import caption_key, hashes_of
from reelwright.training.data.sample_index import SampleIndex, index_samples, numbers_of
from reelwright.training.data.schedule import Draw, Schedule
from reelwright.training.data.spool import stretches
from reelwright.training.data.windows import Window, drawn_windows, wanted_windows
from reelwright.training.recipe import EncodeConfig

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Samples(Protocol):
    """Where latents and text states come from. Both methods may be called from several threads at once.

    device: of the encoders, where there are some; None: results are on the CPU.
    """

    @property
    def device(self) -> torch.device | None:
        """Device of the encoders; None: there are none, and results are on the CPU."""

    def latents(self, bucket: Bucket, draws: Sequence[Draw]) -> Tensor:
        """Return float32 [B, C, T, H, W]."""

    def states(self, captions: Sequence[str]) -> list[Tensor]:
        """Return [L_i, D] for each caption, in the type that states are stored in."""


@dataclass(frozen=True)
class Missing:
    """Lacking rows of a schedule.

    Attributes:
        latents: window -> rows of the schedule.
        captions: texts, or their hashes, each once, in order.
        wanted: latents, there or not.
        count_captions: counts the captions that are wanted, there or not.
    """

    latents: dict[Window, np.ndarray]
    captions: pa.Array
    wanted: int
    count_captions: Callable[[], int]

    @property
    def count(self) -> int:
        """Lacking latents."""
        return sum(map(len, self.latents.values()))

    @cached_property
    def wanted_captions(self) -> int:
        """Captions, there or not."""
        return self.count_captions()

    def __bool__(self) -> bool:
        return bool(self.count or len(self.captions))

    def stored_by(self, encode: EncodeConfig) -> Missing:
        """Return what of it a recipe wants in the store before it trains."""
        latents, text = encode.stored
        kept = (self.latents, self.wanted) if latents else ({}, 0)
        of_text = (self.captions, self.count_captions) if text else (self.captions.slice(0, 0), lambda: 0)
        return Missing(kept[0], of_text[0], kept[1], of_text[1])


class StoredSamples:
    """Rows of the tables `latents` and `texts`.

    Their places are looked up once; a batch is one fetch from each table.
    """

    device: torch.device | None = None

    def __init__(
        self, store: Store, schedule: Schedule, fingerprints: Fingerprints, index: SampleIndex | None = None
    ) -> None:
        """Look up what the store holds for the schedule, unless an index says it."""
        self.schedule = schedule
        self.index = index or index_samples(store, schedule.plan.distinct_ids, fingerprints)
        self.reader, self.text_reader = (
            store.reader(table, version)
            for table, version in zip(("latents", "texts"), self.index.versions, strict=True)
        )

    def missing(self) -> Missing:
        """Return what the schedule may draw and the store lacks: columns joined with columns, a stretch at a time."""
        latents, wanted = self.missing_latents()
        parts = self.schedule.plan.caption_parts
        return Missing(
            latents, each_once_in_order(map(self._without_states, parts())), wanted,
            lambda: len(each_once_in_order(parts())),
        )  # fmt: skip

    def missing_latents(self) -> tuple[dict[Window, np.ndarray], int]:
        """(window -> rows of the schedule that the store lacks, latents that may be drawn)."""
        latents, wanted = defaultdict[Window, list[np.ndarray]](list), 0
        plan = self.schedule.plan
        for here in stretches(len(plan.state)) if plan.clip is None else [slice(None)]:
            for window, rows in wanted_windows(self.schedule, here):
                wanted += len(rows)
                lacking = rows[self._find(window, rows) < 0]
                if len(lacking):
                    latents[window].append(lacking)
        order = {bucket: number for number, bucket in enumerate(plan.buckets)}
        windows = sorted(latents, key=lambda window: (order[window.bucket], window.place))
        return {window: np.concatenate(latents[window]) for window in windows}, wanted

    def _without_states(self, captions: pa.Array) -> pa.Array:
        return captions.take(pa.array(np.flatnonzero(self.index.find_texts(numbers_of(hashes_of(captions))) < 0)))

    def latents(self, bucket: Bucket, draws: Sequence[Draw]) -> Tensor:
        """Return float32 [B, C, T, H, W]."""
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
        stored = self.index.windows[windows[0].key]
        data = self.reader.tensors(distinct, inline=is_inline(stored.bytes))
        out = torch.empty(len(draws), *stored.shape)
        flat = out.numpy()
        for sample, i in enumerate(which.tolist()):
            read_into(flat[sample], data[i], self.schedule.data.store_dtype)
        return out

    def states(self, captions: Sequence[str]) -> list[Tensor]:
        """Return [L_i, D] for each caption, in the type that states are stored in."""
        distinct, which = np.unique(numbers_of([caption_key(c) for c in captions]), return_inverse=True)
        at = self.index.find_texts(distinct)
        if at.min(initial=0) < 0:
            raise KeyError(f"no text states of one of the captions {list(captions)[:3]}")
        small = self.index.text_bytes[at] <= INLINE_BYTES
        out: list[Tensor] = [None] * len(at)
        for inline in (True, False):
            some = np.flatnonzero(small == inline)
            if len(some):
                for i, data in zip(
                    some, self.text_reader.tensors(self.index.text_places[at[some]], inline=inline), strict=True
                ):
                    out[i] = self._text(data)
        return [out[i] for i in which.tolist()]

    def _text(self, data: Any) -> Tensor:
        import torch

        from reelwright.model.dtypes import DTYPES

        return torch.frombuffer(bytearray(data), dtype=DTYPES[self.schedule.data.store_dtype]).view(
            -1, self.index.width
        )

    def _find(self, window: Window, rows: np.ndarray) -> np.ndarray:
        """Places of the schedule's rows in a window, -1 where there is none."""
        found = self.index.windows.get(window.key)
        return found.find(self.schedule.plan.clips_of(rows)) if found else np.full(len(rows), -1)
