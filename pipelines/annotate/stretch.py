"""A stretch of the clips, and where each stands with each annotator: current, stale, waiting, or failed before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelwright.annotate import Annotator, Computes, expected_fingerprint, stored_needs

CURRENT, STALE, WAITING, FAILED = range(4)
FACTS = ("clip_id", "source_md5", "width", "height", "num_frames", "fps")


@dataclass(frozen=True)
class Stretch:
    """One look at some clips.

    clips: one row per clip, in the table's order: ROW_ID, FACTS and fingerprints. states: annotator -> uint8 [clips].
    expected: annotator -> the fingerprint that would be current, for each clip. version: of `clips` in the store.
    """

    clips: pa.Table
    states: Mapping[str, np.ndarray]
    expected: Mapping[str, pa.DictionaryArray]
    version: int


def reads(annotator: Computes, producers: Mapping[str, str]) -> list[str]:
    """List the annotators whose columns it reads."""
    return sorted({producers[n.column] for n in stored_needs(annotator) if n.column in producers})


def expected_of(annotator: Annotator, clips: pa.Table, producers: Mapping[str, str]) -> pa.DictionaryArray:
    """Return one fingerprint where it reads no other annotator; else one for each combination of theirs."""
    prints = [f"{name}_fingerprint" for name in reads(annotator, producers)]
    codes, values = np.zeros(len(clips), np.int64), []
    for column in prints:
        encoded = clips.column(column).combine_chunks().dictionary_encode()
        values.append([None, *encoded.dictionary.to_pylist()])
        codes = codes * len(values[-1]) + pc.fill_null(pc.add(encoded.indices, 1), 0).to_numpy(zero_copy_only=False)
    seen, inverse = np.unique(codes, return_inverse=True)
    rows = [dict(zip(prints, _decode(int(code), values), strict=True)) for code in seen]
    found = pa.array([expected_fingerprint(annotator, row, producers) for row in rows], pa.string())
    return pa.DictionaryArray.from_arrays(pa.array(inverse, pa.int32()), found)


def is_same(clips: pa.Table, column: str, expected: pa.DictionaryArray) -> np.ndarray:
    """Return which clips have the expected fingerprint in `column`, bool [clips]."""
    if column not in clips.column_names:
        return np.zeros(len(clips), bool)
    return pc.fill_null(pc.equal(clips.column(column), expected.dictionary_decode()), False).to_numpy()


def _decode(code: int, values: Sequence[Sequence[str | None]]) -> list[str | None]:
    out: list[str | None] = []
    for column in reversed(values):
        code, index = divmod(code, len(column))
        out.append(column[index])
    return out[::-1]
