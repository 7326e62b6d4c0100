"""Groups of clips that show the same: re-encoded, scaled, remuxed and lightly touched copies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelwright.annotate.contract import Column, Stored, StreamedSetAnnotator
from reelwright.annotate.set_reader import ClipReader
from reelwright.annotate.sets.duplicates.groups import group
from reelwright.annotate.sets.duplicates.hashes import LikeHashes, padded
from reelwright.annotate.sets.duplicates.vectors import LikeVectors
from reelwright.curation.vectors.scratch import Scratch


@dataclass(frozen=True)
class NearDuplicates(StreamedSetAnnotator):
    """Group near-duplicates: a clip and all clips within the threshold of it that no earlier group has.

    Clips are taken in order of clip_id, and the group is named after its first clip, so it is its smallest id. Likeness
    is not transitive: a chain of clips, each like the next, is no group. All pairs within the threshold are found; by
    embedding, of more than 100,000 clips, about 1 in 1,000 of the pairs that lie right at the threshold is missed.

    by: "hash" compares `frame_hash`: bits by which frames differ, mean over the best match of the two clips' frames
        that keeps their order, at most max_bits. A frame of a copy differs by 0 to 2 of 64 bits, of other footage by
        some 30. A clip half of whose frames or more are flat is alone.
        "embedding" compares `visual_embedding`: cosine at least min_cosine. That finds crops and mirrored copies too,
        and takes different footage of the same things for duplicates.
    """

    by: Literal["hash", "embedding"] = "hash"
    max_bits: float = 4.0
    min_cosine: float = 0.96

    name, version = "near_duplicates", 1
    profiles = ("cpu", "full")
    profile_parameters = {"full": {"by": "embedding"}}
    typical_s = 0.001
    columns = {
        "near_duplicate_group": Column(pa.string(), "smallest clip_id of those that show the same; its own if alone"),
        "near_duplicate_count": Column(pa.int32(), "clips of the group, this one included", "clips"),
    }

    def __post_init__(self) -> None:
        if not 0 <= self.max_bits <= 16:
            raise ValueError(f"near_duplicates: max_bits = {self.max_bits}; it must lie between 0 and 16 of 64")
        if not 0.5 <= self.min_cosine <= 1:
            raise ValueError(f"near_duplicates: min_cosine = {self.min_cosine}; it must lie between 0.5 and 1")

    @property
    def needs(self) -> Stored:
        """The column that is compared."""
        return Stored("frame_hash" if self.by == "hash" else "visual_embedding")

    def stream(self, clips: ClipReader, state: Any) -> tuple[Iterator[Mapping[str, Any]], Any]:
        """Return the group of each clip, and its size."""
        batches = [batch["clip_id"] for batch in clips.batches([])]
        ids = pa.concat_arrays([one.combine_chunks().cast(pa.large_string()) for one in batches])
        order = pc.sort_indices(ids).to_numpy()
        place = np.empty(len(ids), np.int64)
        place[order] = np.arange(len(ids))
        if not len(ids):  # perhaps a store that has no such column yet
            return _results([len(one) for one in batches], ids, order, place, place), None
        with Scratch() as scratch:
            neighbours = self._neighbours(clips, place, scratch)
            first = group(len(ids), neighbours, neighbours.block)
        return _results([len(one) for one in batches], ids, order, place, first), None

    def _neighbours(self, clips: ClipReader, place: np.ndarray, scratch: Scratch) -> LikeHashes | LikeVectors:
        """Read the column that is compared; place: of each clip in order of clip_id."""
        values: np.ndarray | None = None
        start = 0
        for batch in clips.batches([self.needs.column]):
            column = batch[self.needs.column].combine_chunks()
            found = self._compared(column)
            if values is None:
                values = scratch.array((len(place), found.shape[1]), found.dtype)
            values[place[start : start + len(found)]] = found
            start += len(found)
        assert values is not None
        if self.by == "hash":
            return LikeHashes(values, self.max_bits, scratch)
        return LikeVectors(values, self.min_cosine, scratch)

    def _compared(self, column: Any) -> np.ndarray:
        values = column.flatten().to_numpy(zero_copy_only=False)
        if self.by == "hash":
            return padded(values.view(np.uint64), column.value_lengths().to_numpy(zero_copy_only=False))
        return np.asarray(values, np.float32).reshape(len(column), column.type.list_size)


def _results(
    sizes: Sequence[int], ids: pa.Array, order: np.ndarray, place: np.ndarray, first: np.ndarray
) -> Iterator[dict[str, Any]]:
    """Yield the columns of each batch.

    Args:
        sizes: of the batches.
        ids: of all clips, as they are read.
        order: rows of the clips in order of clip_id.
        place: of each row in that order.
        first: of each clip's group, in that order.
    """
    count = np.bincount(first, minlength=len(first))
    start = 0
    for size in sizes:
        leader = first[place[start : start + size]]
        groups = ids.take(pa.array(order[leader])).cast(pa.string())
        yield {"near_duplicate_group": groups, "near_duplicate_count": pa.array(count[leader], pa.int32())}
        start += size
