"""Rows of lists that name one file become one, by the column: what `Input.joined` makes of them, one after another."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelwright.curation.ingest.told import FIELDS, TOLD, with_keys
from reelwright.curation.keys.hashing import Hasher
from reelwright.curation.keys.said import CAPTIONS, PARTS_OF_A_FILE


def join_rows(rows: pa.RecordBatch, groups: np.ndarray, also: np.ndarray, hasher: Hasher) -> pa.RecordBatch:
    """Return one row for each group.

    Args:
        rows: TOLD [N].
        groups: int64 [N], ascending from 0 without a gap; those of a group in the order in which they were read.
        also: bool [G], whether a row that is not among these asks for the whole file, too.
        hasher: of texts.
    """
    firsts = rows.take(pa.array(np.flatnonzero(np.diff(groups, prepend=-1))))
    columns = {name: firsts.column(name) for name in FIELDS}
    for name in ("source_id", "licence"):
        columns[name] = _first_known(rows.column(name), groups, len(also))
    texts, of = _flat(rows.column("captions"))
    columns["captions"] = _each_once(texts, groups[of], len(also))
    asks = np.asarray(rows.column("is_row"))
    columns["spans"] = _spans(rows, groups, also, asks)
    named = also.copy()
    named[groups[asks]] = True
    columns["is_row"] = pa.array(named)
    return with_keys([columns[name].cast(TOLD.field(name).type) for name in FIELDS], hasher)


def _spans(rows: pa.RecordBatch, groups: np.ndarray, also: np.ndarray, asks: np.ndarray) -> pa.ListArray:
    """Parts of each group, sorted, each pair of times once, with the captions of all that name it.

    Beside rows with parts, one without any stands for the whole file.
    """
    parts, of = _flat(rows.column("spans"))
    cut = np.zeros(len(also), bool)
    cut[groups[of]] = True
    has_none = np.bincount(of, minlength=len(groups)) == 0
    whole, added = np.flatnonzero(has_none & asks & cut[groups]), np.flatnonzero(also & cut)
    none = pa.array([[]] * len(added), CAPTIONS)
    captions = pa.concat_arrays([parts.field(2), rows.column("captions").take(pa.array(whole)), none])
    start = np.concatenate([np.asarray(parts.field(0)), np.zeros(len(whole) + len(added))])
    end = np.concatenate([np.asarray(parts.field(1)), np.full(len(whole) + len(added), math.inf)])
    group = np.concatenate([groups[of], groups[whole], added])
    read = np.concatenate([of, whole, np.full(len(added), len(groups))])
    order = np.lexsort((read, end, start, group))
    start, end, group = start[order], end[order], group[order]
    is_new = np.ones(len(order), bool)
    is_new[1:] = (np.diff(group) != 0) | (np.diff(start) != 0) | (end[1:] != end[:-1])
    texts, of_part = _flat(captions.take(pa.array(order)))
    pair = np.cumsum(is_new) - 1
    each = _each_once(texts, pair[of_part], int(is_new.sum()))
    kind = PARTS_OF_A_FILE.value_type
    found = pa.StructArray.from_arrays([pa.array(start[is_new]), pa.array(end[is_new]), each], fields=list(kind))
    return pa.ListArray.from_arrays(_offsets(group[is_new], len(also)), found)


def _first_known(texts: pa.Array, groups: np.ndarray, num_groups: int) -> pa.Array:
    """Return of each group the first text that is not null, and not empty."""
    known = np.flatnonzero(pc.fill_null(pc.greater(pc.binary_length(texts), 0), False))
    which, first = np.unique(groups[known], return_index=True)
    rows = np.full(num_groups, -1)
    rows[which] = known[first]
    return texts.take(pa.array(rows, mask=rows < 0))


def _each_once(texts: pa.Array, groups: np.ndarray, num_groups: int) -> pa.ListArray:
    """Return the texts of each group, each once, in order. groups: int64, ascending, of each text."""
    codes = np.asarray(texts.dictionary_encode().indices).astype(np.int64)
    kept = np.sort(np.unique(groups * (codes.max(initial=0) + 1) + codes, return_index=True)[1])
    return pa.ListArray.from_arrays(_offsets(groups[kept], num_groups), texts.take(pa.array(kept)))


def _flat(lists: pa.ListArray) -> tuple[pa.Array, np.ndarray]:
    """Return the values of all lists, and of each the number of its list."""
    return lists.flatten(), np.repeat(np.arange(len(lists)), np.asarray(lists.value_lengths()))


def _offsets(groups: np.ndarray, num_groups: int) -> pa.Array:
    return pa.array(np.append(0, np.cumsum(np.bincount(groups, minlength=num_groups))), pa.int32())
