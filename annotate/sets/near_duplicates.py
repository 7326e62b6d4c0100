"""Groups of clips that show the same: re-encoded, scaled, remuxed and lightly touched copies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from reelwright.annotate.contract import Column, SetAnnotator, Stored
from reelwright.annotate.sets.duplicates.groups import Neighbours, group
from reelwright.annotate.sets.duplicates.hashes import LikeHashes, padded
from reelwright.annotate.sets.duplicates.vectors import LikeVectors


@dataclass(frozen=True)
class NearDuplicates(SetAnnotator):
    """Group near-duplicates: a clip and all clips within the threshold of it that no earlier group has.

    Clips are taken in order of clip_id, and the group is named after its first clip, so it is its smallest id. Likeness
    is not transitive: a chain of clips, each like the next, is no group. All pairs within the threshold are found.

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

    def __call__(self, clips: pa.Table, state: Any) -> tuple[Mapping[str, Any], Any]:
        """Return the group of each clip, and its size."""
        first = group(len(clips), self._neighbours(clips[self.needs.column].combine_chunks()))
        count = np.bincount(first, minlength=len(clips))[first]
        groups = clips["clip_id"].combine_chunks().take(pa.array(first))
        return {"near_duplicate_group": groups, "near_duplicate_count": pa.array(count, pa.int32())}, None

    def _neighbours(self, column: Any) -> Neighbours:
        values = column.flatten().to_numpy(zero_copy_only=False)
        if self.by == "hash":
            lengths = column.value_lengths().to_numpy(zero_copy_only=False)
            return LikeHashes(padded(values.view(np.uint64), lengths), self.max_bits)
        return LikeVectors(values.reshape(-1, column.type.list_size), self.min_cosine)
