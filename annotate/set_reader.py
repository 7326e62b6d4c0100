"""Clips of a set as an annotator reads them: in batches, as often as it wants, so that no set is too large."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from reelwright.curation.vectors.id_hashes import hashes_of

BATCH_CLIPS = 16_384
_HASH = "__hash"


class ClipReader(ABC):
    """The clips of a set with the columns that its annotator needs."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of clips."""

    @abstractmethod
    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield tables of `clip_id` and columns: the same clips in the same order, cut in the same places, each time.

        The order is the store's own, not that of clip_id. There is at least one table, an empty one for no clips.

        columns: default: all that the annotator needs.
        """

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return all clips at once, in order of clip_id: for sets that are known to fit in memory."""
        return pa.concat_tables(self.batches(columns)).sort_by("clip_id")

    def sample(self, count: int, seed: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Return at most `count` clips as `sampled` does."""
        return sampled(self.batches(columns), count, seed)


class TableReader(ClipReader):
    """A table in memory, of `clip_id` and other columns, read as a set is.

    Args:
        clips: the table.
        batch: clips per batch.
    """

    def __init__(self, clips: pa.Table, batch: int = BATCH_CLIPS) -> None:
        self._clips, self._batch = clips, batch

    def __len__(self) -> int:
        return self._clips.num_rows

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield slices of the table."""
        clips = self._clips if columns is None else self._clips.select(["clip_id", *columns])
        for start in range(0, max(1, len(clips)), self._batch):
            yield clips.slice(start, self._batch)


def sampled(batches: Iterable[pa.Table], count: int, seed: int) -> pa.Table:
    """Return the `count` clips with the smallest hash of seed and id, in order of clip_id; all where there are fewer.

    It stays the same but for few as clips come and go. Memory: twice the sample.

    Args:
        batches: at least one table with `clip_id`.
        count: of the sample, at least 1.
        seed: of the hash.
    """
    kept: list[pa.Table] = []
    bound = np.uint64(2**64 - 1)
    for batch in batches:
        hashes = hashes_of(batch["clip_id"].to_pylist(), seed)
        kept.append(batch.append_column(_HASH, pa.array(hashes)).filter(pa.array(hashes <= bound)))
        if sum(map(len, kept)) > 2 * count:
            kept = [_smallest(kept, count)]
            bound = kept[0][_HASH].to_numpy().max()
    return _smallest(kept, count).drop_columns([_HASH]).sort_by("clip_id")


def rebatched(batches: Iterable[pa.Table | pa.RecordBatch], schema: pa.Schema, size: int) -> Iterator[pa.Table]:
    """Yield the same rows in tables of `size`, the last of what is left; one empty table for no rows."""
    held: list[pa.Table] = []
    rows, any_yet = 0, False
    for batch in batches:
        held.append(pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch)
        rows += batch.num_rows
        while rows >= size:
            whole = pa.concat_tables(held)
            yield whole.slice(0, size)
            held, rows, any_yet = [whole.slice(size)], rows - size, True
    if rows or not any_yet:
        yield pa.concat_tables([schema.empty_table(), *held])


def _smallest(tables: Sequence[pa.Table], count: int) -> pa.Table:
    table = pa.concat_tables(tables)
    return table.take(pa.array(np.argsort(table[_HASH].to_numpy(), kind="stable")[:count]))
