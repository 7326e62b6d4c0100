"""Stale clips in batches, with the columns that their annotators read: bounded in clips and in bytes of frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reelwright.annotate import Annotator, Frames, stored_needs
from reelwright.annotate.contract import needs_of
from reelwright.curation.store import Store
from reelwright.curation.store.sql_text import literals
from reelwright.pipelines.annotate.load import PART_COLUMNS, SOURCE_COLUMNS, producers_of
from reelwright.pipelines.annotate.staleness import STALE, Staleness

ROWS_AT_ONCE = 2048  # rows read together: a look-up scans what its index does not cover


@dataclass(frozen=True)
class Batch:
    """Clips for the same annotators. rows: each clip's columns that they read, with the columns' fingerprints."""

    names: tuple[str, ...]
    clip_ids: tuple[str, ...]
    source_md5s: tuple[str, ...]
    indices: tuple[int, ...]  # rows of `Staleness.clips`
    rows: tuple[dict[str, Any], ...]


def batches_of(
    store: Store, staleness: Staleness, annotators: Mapping[str, Annotator], *, clips: int, frame_bytes: int
) -> Iterator[Batch]:
    """Yield the clips that are stale, in the table's order for each combination of annotators.

    Args:
        store: the store.
        staleness: state of each clip under each annotator.
        annotators: by name.
        clips: most clips per batch.
        frame_bytes: most bytes of sampled frames per batch; a batch of one clip may exceed it.
    """
    reader = _Rows(store, staleness, annotators)
    for names, indices in _combinations(staleness, list(annotators)):
        weights = _frame_bytes(staleness, [annotators[n] for n in names], indices)
        for part in np.array_split(indices, np.arange(ROWS_AT_ONCE, len(indices), ROWS_AT_ONCE)):
            rows = reader.read(names, part)
            start = 0
            while start < len(part):
                stop = _fill(part, start, weights, clips, frame_bytes)
                yield _batch(staleness, names, part[start:stop], rows[start:stop])
                start = stop


def _combinations(staleness: Staleness, names: Sequence[str]) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
    """(annotators, clips on which exactly these are stale)."""
    codes = np.zeros(len(staleness.clips), np.int64)
    for bit, name in enumerate(names):
        codes |= (staleness.states[name] == STALE).astype(np.int64) << bit
    for code in np.unique(codes[codes > 0]):
        yield tuple(n for bit, n in enumerate(names) if code >> bit & 1), np.flatnonzero(codes == code)


def _frame_bytes(staleness: Staleness, annotators: Sequence[Annotator], indices: np.ndarray) -> dict[int, int]:
    """Return place -> bytes of the frames that its annotators look at; for a lone one, the bytes that it keeps."""
    share = annotators[0].kept_share if len(annotators) == 1 else 1.0
    needs = {n for a in annotators for n in needs_of(a) if isinstance(n, Frames)}
    facts = staleness.clips.select(["width", "height", "num_frames", "fps"]).take(indices).to_pylist()
    out = {}
    for index, f in zip(indices.tolist(), facts, strict=True):
        out[index] = int(share * sum(_bytes_of(need, f) for need in needs))
    return out


def _bytes_of(need: Frames, clip: Mapping[str, Any]) -> int:
    width, height = need.size(clip["width"] or 1, clip["height"] or 1)
    frames = len(need.indices(clip["num_frames"] or 1, clip["fps"] or 1.0)) * (2 if need.pairs else 1)
    return frames * width * height * (3 if need.color == "rgb" else 1)


def _fill(part: np.ndarray, start: int, weights: Mapping[int, int], clips: int, frame_bytes: int) -> int:
    """Return where the batch that begins at `start` ends."""
    stop, held = start, 0
    while stop < len(part) and stop - start < clips:
        held += weights[int(part[stop])]
        if held > frame_bytes and stop > start:
            break
        stop += 1
    return stop


def _batch(staleness: Staleness, names: tuple[str, ...], indices: np.ndarray, rows: Sequence[dict[str, Any]]) -> Batch:
    clips = staleness.clips.select(["clip_id", "source_md5"]).take(indices)
    ids, md5s = clips.column(0).to_pylist(), clips.column(1).to_pylist()
    return Batch(names, tuple(ids), tuple(md5s), tuple(indices.tolist()), tuple(rows))


class _Rows:
    """Columns that annotators read, as the store had them when the staleness was taken."""

    def __init__(self, store: Store, staleness: Staleness, annotators: Mapping[str, Annotator]) -> None:
        self.store, self.staleness, self.annotators = store, staleness, annotators
        self.producers, self.schema = producers_of(store), store.schema("clips").names
        self._of_sources: dict[str, dict[str, Any]] = {}

    def read(self, names: Sequence[str], indices: np.ndarray) -> list[dict[str, Any]]:
        """Read one dict per clip, in the order of `places`; empty where the annotators read nothing."""
        wanted = {n.column for name in names for n in stored_needs(self.annotators[name])}
        if not wanted:
            return [{} for _ in indices]
        columns = wanted & set(self.schema)
        columns |= {f"{self.producers[c]}_fingerprint" for c in columns if c in self.producers}
        parts = {name: PART_COLUMNS[name] for name in wanted & set(PART_COLUMNS)}
        columns |= set(parts.values())
        picked = self.staleness.clips.select(["clip_id", "source_md5"]).take(indices)
        ids = picked.column(0).to_pylist()
        found = self.store.read(
            "clips", ["clip_id", *sorted(columns)], filter=f"clip_id IN ({literals(ids)})",
            version=self.staleness.version,
        ).to_pylist()  # fmt: skip
        by_id = {row.pop("clip_id"): row for row in found}
        of_source = [self._source_values(wanted, md5) for md5 in picked.column(1).to_pylist()]
        for clip_id, more in zip(ids, of_source, strict=True):
            of_part = {name: by_id[clip_id][column] for name, column in parts.items()}
            by_id[clip_id] |= more | {name: value for name, value in of_part.items() if value is not None}
        return [by_id[clip_id] for clip_id in ids]

    def _source_values(self, wanted: set[str], md5: str) -> dict[str, Any]:
        return {name: self._values(SOURCE_COLUMNS[name]).get(md5) for name in wanted & set(SOURCE_COLUMNS)}

    def _values(self, column: str) -> dict[str, Any]:
        """Source md5 -> value; sources are few beside clips."""
        if column not in self._of_sources:
            rows = self.store.read("sources", ["md5", column], filter=f"state = 'ok' AND {column} IS NOT NULL")
            self._of_sources[column] = {r["md5"]: r[column] for r in rows.to_pylist()}
        return self._of_sources[column]
