"""What the store has of its sources' captions and parts, and by which settings they were cut, whatever the parts."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from reelwright.curation.clips import with_spans
from reelwright.curation.ingest.inputs import Span
from reelwright.curation.keys.hashing import Hasher
from reelwright.curation.keys.said import CAPTIONS, PARTS_OF_A_FILE, said_keys
from reelwright.curation.store.known_words import Words


class Said(NamedTuple):
    """Of rows of `sources`.

    keys: uint64 [N], `said_keys` of captions and parts. cuttings: uint16 [N], numbers of words. are_parts: bool [N].
    """

    keys: np.ndarray
    cuttings: np.ndarray
    are_parts: np.ndarray


def said_of(hasher: Hasher, column: dict[str, Any], ok: np.ndarray, cuttings: Words) -> Said:
    """Return what rows of `sources` say.

    Args:
        hasher: of texts.
        column: the columns that are read of them, by name.
        ok: bool [N], which rows are of sources that are ok; of the others nothing is asked.
        cuttings: fingerprints of settings without those of parts; new ones are added.
    """
    captions, spans = _captions(column), pa.array([[]] * len(ok), PARTS_OF_A_FILE)
    are_parts = ok & is_valid(column["spans"])
    fingerprints = column["cutting_fingerprint"]
    found = cuttings.numbers(_where(~are_parts, fingerprints))
    some = np.flatnonzero(are_parts)
    if len(some):
        parts = [json.loads(text) for text in column["spans"].take(pa.array(some)).to_pylist()]
        parts = [[(start, math.inf if end is None else end, texts) for start, end, texts in each] for each in parts]
        spans = _put(spans, some, pa.array(parts, PARTS_OF_A_FILE))
        known = fingerprints.take(pa.array(some)).to_pylist()
        found[some] = [_settings(fingerprint, each, cuttings) for fingerprint, each in zip(known, parts, strict=True)]
    keys = np.where(ok, said_keys(hasher, captions, spans), 0)
    return Said(keys, found, are_parts)


def _settings(fingerprint: str | None, parts: Sequence[tuple[float, float, Any]], cuttings: Words) -> int:
    """Return the number of the settings by which a source was cut into parts; OTHERS where they are not known."""
    spans = [Span(start, end) for start, end, _ in parts]
    known = (n for n in cuttings.latest() if with_spans(cuttings.texts[n - 1], spans) == fingerprint)
    return 0 if fingerprint is None else cuttings.used(next(known, Words.OTHERS))


def _captions(column: dict[str, Any]) -> pa.ListArray:
    """Return CAPTIONS [N] of the whole files: of several, all are in one column, and the first in another."""
    firsts, several = column["caption"], column["captions"]
    known, listed = is_valid(firsts), np.flatnonzero(is_valid(several))
    offsets = pa.array(np.append(0, np.cumsum(known)), pa.int32())
    found = pa.ListArray.from_arrays(offsets, firsts.drop_null().cast(pa.large_string()))
    return _put(found, listed, several.take(pa.array(listed)).cast(CAPTIONS)) if len(listed) else found


def _put(into: pa.Array, places: np.ndarray, values: pa.Array) -> pa.Array:
    """Return an array with other values at some places."""
    rows = np.arange(len(into))
    rows[places] = len(into) + np.arange(len(values))
    return pa.concat_arrays([into.cast(values.type), values]).take(pa.array(rows))


def _where(mask: np.ndarray, texts: pa.Array) -> pa.Array:
    """Return the texts of a mask, and null elsewhere."""
    return texts if mask.all() else texts.take(pa.array(np.arange(len(mask)), mask=~mask))


def is_valid(column: pa.Array) -> np.ndarray:
    """Return bool [N]: which rows have a value."""
    return np.asarray(column.is_valid())
