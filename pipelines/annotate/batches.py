"""Stale clips in batches, with the columns that their annotators read: bounded in clips and in bytes of frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from reelwright.annotate import Annotator, Frames, stored_needs
from reelwright.annotate.contract import needs_of
from reelwright.curation.store import Store
from reelwright.curation.store.row_marks import ROW_ID
from reelwright.curation.store.sql_text import literals
from reelwright.pipelines.annotate.load import PART_COLUMNS, SOURCE_COLUMNS, producers_of
from reelwright.pipelines.annotate.staleness import Staleness
from reelwright.pipelines.annotate.stretch import STALE, Stretch

ROWS_AT_ONCE = 2048  # rows read together: a look-up scans what its index does not cover


@dataclass(frozen=True)
class Batch:
    """Clips for the same annotators. rows: each clip's columns that they read, with the columns' fingerprints.

    expected: annotator -> the fingerprint that would be current, for each clip. row_ids: uint64 [clips], the store's.
    """

    names: tuple[str, ...]
    clip_ids: tuple[str, ...]
    source_md5s: tuple[str, ...]
    expected: Mapping[str, tuple[str, ...]]
    rows: tuple[dict[str, Any], ...]
    row_ids: np.ndarray


def batches_of(
    store: Store, staleness: Staleness, annotators: Mapping[str, Annotator], *, clips: int, frame_bytes: int
) -> Iterator[Batch]:
    """Yield the clips that are stale, stretch by stretch, in the table's order for each combination of annotators.

    Args:
        store: the store.
        staleness: state of each clip under each annotator.
        annotators: by name.
        clips: most clips per batch.
        frame_bytes: most bytes of sampled frames per batch; a batch of one clip may exceed it.
    """
    reader = _Rows(store, annotators)
    for stretch in staleness.stretches():
        for names, indices in _combinations(stretch, list(annotators)):
            for part in np.array_split(indices, np.arange(ROWS_AT_ONCE, len(indices), ROWS_AT_ONCE)):
                rows = reader.read(names, stretch, part)
                weights = _frame_bytes(stretch, [annotators[n] for n in names], part)
                start = 0
                while start < len(part):
                    stop = _fill(weights, start, clips, frame_bytes)
                    yield _batch(stretch, names, part[start:stop], rows[start:stop])
                    start = stop


def _combinations(stretch: Stretch, names: Sequence[str]) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
    """(annotators, clips on which exactly these are stale)."""
    codes = np.zeros(len(stretch.clips), np.int64)
    for bit, name in enumerate(names):
        codes |= (stretch.states[name] == STALE).astype(np.int64) << bit
    for code in np.unique(codes[codes > 0]):
        yield tuple(n for bit, n in enumerate(names) if code >> bit & 1), np.flatnonzero(codes == code)


def _frame_bytes(stretch: Stretch, annotators: Sequence[Annotator], indices: np.ndarray) -> list[int]:
    """Return, per clip, the bytes of the frames that its annotators look at; for a lone one, those that it keeps."""
    share = annotators[0].kept_share if len(annotators) == 1 else 1.0
    needs = {n for a in annotators for n in needs_of(a) if isinstance(n, Frames)}
    facts = stretch.clips.select(["width", "height", "num_frames", "fps"]).take(indices).to_pylist()
    return [int(share * sum(_bytes_of(need, f) for need in needs)) for f in facts]


def _bytes_of(need: Frames, clip: Mapping[str, Any]) -> int:
    width, height = need.size(clip["width"] or 1, clip["height"] or 1)
    frames = len(need.indices(clip["num_frames"] or 1, clip["fps"] or 1.0)) * (2 if need.pairs else 1)
    return frames * width * height * (3 if need.color == "rgb" else 1)


def _fill(weights: Sequence[int], start: int, clips: int, frame_bytes: int) -> int:
    """Return where the batch that begins at `start` ends."""
    stop, held = start, 0
    while stop < len(weights) and stop - start < clips:
        held += weights[stop]
        if held > frame_bytes and stop > start:
            break
        stop += 1
    return stop


def _batch(stretch: Stretch, names: tuple[str, ...], indices: np.ndarray, rows: Sequence[dict[str, Any]]) -> Batch:
    clips = stretch.clips.select(["clip_id", "source_md5", ROW_ID]).take(indices)
    ids, md5s, row_ids = clips.column(0).to_pylist(), clips.column(1).to_pylist(), clips.column(2).to_numpy()
    expected = {name: tuple(stretch.expected[name].take(pa.array(indices)).to_pylist()) for name in names}
    return Batch(names, tuple(ids), tuple(md5s), expected, tuple(rows), row_ids)


class _Rows:
    """Columns that annotators read, as the store had them when its clips were looked at."""

    def __init__(self, store: Store, annotators: Mapping[str, Annotator]) -> None:
        self.store, self.annotators = store, annotators
        self.producers, self.schema = producers_of(store), store.schema("clips").names
        self._of_sources: dict[str, dict[str, Any]] = {}

    def read(self, names: Sequence[str], stretch: Stretch, indices: np.ndarray) -> list[dict[str, Any]]:
        """Read one dict per clip, in the order of `indices`; empty where the annotators read nothing."""
        wanted = {n.column for name in names for n in stored_needs(self.annotators[name])}
        if not wanted:
            return [{} for _ in indices]
        columns = wanted & set(self.schema)
        columns |= {f"{self.producers[c]}_fingerprint" for c in columns if c in self.producers}
        parts = {name: PART_COLUMNS[name] for name in wanted & set(PART_COLUMNS)}
        columns |= set(parts.values())
        picked = stretch.clips.select(["clip_id", "source_md5"]).take(indices)
        ids = picked.column(0).to_pylist()
        found = self.store.read(
            "clips", ["clip_id", *sorted(columns)], filter=f"clip_id IN ({literals(ids)})",
            version=stretch.version,
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
