"""Vectors of captions, as annotators of whole sets are given them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelwright.annotate.contract import Need, Stored
from reelwright.annotate.per_batch import PerBatch
from reelwright.annotate.set_reader import ClipReader, sampled

VECTOR, MODEL = "caption_embedding", "caption_embedding_model"
NEEDS: tuple[Need, ...] = (Stored(VECTOR), Stored(MODEL, optional=True))


@dataclass(frozen=True)
class Part:
    """A batch of a set.

    Attributes:
        clips: all clips of the batch.
        rows: int [M], the clips whose vectors can be compared.
        vectors: float32 [M, D], their unit vectors.
    """

    clips: pa.Table
    rows: np.ndarray
    vectors: np.ndarray

    @classmethod
    def of(cls, clips: pa.Table, model: str) -> Part:
        """Return the part that clips are. clips: with VECTOR and MODEL; model: whose vectors can be compared."""
        models = pc.fill_null(clips[MODEL].cast(pa.string()), "")
        rows = np.flatnonzero(pc.and_(clips[VECTOR].is_valid(), pc.equal(models, model)).to_numpy())
        return cls(clips, rows, _unit(clips[VECTOR].take(pa.array(rows))))

    @property
    def ids(self) -> pa.Array:
        """Ids of the clips with vectors, [M]."""
        return self.column("clip_id")

    def column(self, name: str) -> Any:
        """Return a column of the clips with vectors, [M]."""
        return self.clips[name].combine_chunks().take(pa.array(self.rows))

    def spread_out(self, values: Any, kind: pa.DataType) -> pa.Array:
        """Return values [M] as a column of the whole batch, null where a clip has no vector."""
        positions = np.full(len(self.clips), -1)
        positions[self.rows] = np.arange(len(self.rows))
        return pa.array(values, kind).take(pa.array(positions, mask=positions < 0))


class CaptionVectors:
    """The vectors of a set that can be compared: those of the model that made most.

    Clips of other models wait until their vectors are computed again.

    Args:
        clips: with the columns of NEEDS.

    Attributes:
        model: that made the vectors.
        count: clips with such a vector.
    """

    def __init__(self, clips: ClipReader) -> None:
        self._clips = clips
        made: Counter[str] = Counter()
        usable: Counter[str] = Counter()
        for batch in clips.batches([VECTOR, MODEL]):
            models = [one or "" for one in batch[MODEL].to_pylist()]
            made.update(models)
            usable.update(m for m, there in zip(models, batch[VECTOR].is_valid().to_numpy(), strict=True) if there)
        self.model: str = min(made.items(), key=lambda item: (-item[1], item[0]))[0] if made else ""
        self.count: int = usable[self.model]

    def parts(self, more: Sequence[str] = ()) -> Iterator[Part]:
        """Yield the set batch by batch, with more of its columns, as often as it is asked for."""
        for batch in self._clips.batches([VECTOR, MODEL, *(c for c in more if c not in (VECTOR, MODEL))]):
            yield Part.of(batch, self.model)

    def per_batch(self, compute: Callable[[pa.Table], Mapping[str, Any]], more: Sequence[str] = ()) -> PerBatch:
        """Return columns that are computed from each batch's vectors, and more of its columns, alone."""
        return PerBatch(self._clips, (VECTOR, MODEL, *more), compute)

    def sample(self, count: int, seed: int) -> tuple[pa.Array, np.ndarray]:
        """Return (ids, unit vectors float32 [N, D]) of at most `count` clips, in order of clip_id; see `sampled`."""
        usable = (part.clips.select(["clip_id", VECTOR]).take(pa.array(part.rows)) for part in self.parts())
        chosen = sampled(usable, count, seed)
        return chosen["clip_id"].combine_chunks(), _unit(chosen[VECTOR])

    def nothing(self, columns: Sequence[tuple[str, pa.DataType]]) -> Iterator[dict[str, Any]]:
        """Yield columns of nulls, batch by batch: the result for a set without vectors."""
        for batch in self._clips.batches([]):
            yield {name: pa.nulls(len(batch), kind) for name, kind in columns}


def _unit(column: pa.ChunkedArray) -> np.ndarray:
    """Return unit vectors, float32 [N, D], of a column without nulls."""
    width = column.type.list_size if pa.types.is_fixed_size_list(column.type) else 0
    flat = column.combine_chunks().flatten() if width else pa.array([], pa.float32())
    found = np.asarray(flat.to_numpy(zero_copy_only=False), np.float32).reshape(len(column), width)
    with np.errstate(invalid="ignore"):  # a vector with an infinite number becomes NaN
        return np.asarray(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12))
