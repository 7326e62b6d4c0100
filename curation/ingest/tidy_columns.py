"""Columns of a list that hold what one expects of them: a text, an address, a number in each cell, or nothing.

What is not so is None here, and a look at each row tells what it means.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelwright.curation.ingest.address_column import PLAIN, are_alike
from reelwright.curation.ingest.inputs import WEB, is_unicode
from reelwright.curation.ingest.manifest_names import MAX_TEXT_CHARS
from reelwright.curation.ingest.span_columns import is_missing

ON_THE_WEB = rf"^({'|'.join(WEB)})://[^:@\s\x00-\x1f]+$"
PERHAPS_SIGNED = r"(?i)\?(.*(signature|token)|(.*&)?sig\b)"
NAME = r"[^/.:\x00-\x1f][^/:\x00-\x1f]*"
ON_A_DISK = rf"^(?:{NAME}/)*{NAME}$"
"""Paths that are in their shortest form."""
SHORT = 4  # characters, at most, of texts that stand for a missing one
DECIMAL = r"^[0-9]{1,15}(\.[0-9]+)?$"

LARGE = pa.large_string()
Columns = Mapping[str, pa.Array]


def addresses(columns: Columns, names: Iterable[str], manifest: str, *, allow_http: bool) -> pa.Array | None:
    """Return the addresses of rows, large_string [N].

    Args:
        columns: of the list, by name.
        names: the first column among these has them all.
        manifest: path of the list, to whose folder paths are relative.
        allow_http: whether addresses on the web are read.
    """
    uris = texts(next((columns[name] for name in names if name in columns), None))
    if uris is None or uris.null_count or not len(uris):
        return None
    if are_alike(uris) or _all_match(uris, PLAIN):
        return uris
    if allow_http and _all_match(uris, ON_THE_WEB):
        return None if pc.any(pc.match_substring_regex(uris, PERHAPS_SIGNED)).as_py() else uris
    folder = os.path.abspath(os.path.dirname(manifest))
    if "://" in manifest or not is_unicode(folder) or folder == "/" or not _all_match(uris, ON_A_DISK):
        return None
    return pc.binary_join_element_wise(pa.scalar(folder, LARGE), uris, pa.scalar("/", LARGE))


def first_texts(columns: Columns, names: Iterable[str]) -> pa.Array | None:
    """Return the text of each row in the first of some columns that has one, large_string [N]; null for none."""
    found = [texts(columns[name]) for name in names if name in columns]
    if any(column is None for column in found):
        return None
    return pc.coalesce(*found) if found else _nulls(columns, LARGE)


def first_times(columns: Columns, units: Mapping[str, float]) -> pa.Array | None:
    """Return the seconds of each row in the first of some columns that has any, float64 [N]; null for none.

    units: column -> seconds that one of its units is.
    """
    found = [_times(columns[name], unit) for name, unit in units.items() if name in columns]
    if any(column is None for column in found):
        return None
    return pc.coalesce(*found) if found else _nulls(columns, pa.float64())


def texts(column: pa.Array | None) -> pa.Array | None:
    """Return a column's texts without blanks around them, large_string [N]; null for a missing one."""
    if column is None:
        return None
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_integer(column.type) or column.null_count == len(column):
        return column.cast(LARGE) if pa.types.is_integer(column.type) else pa.nulls(len(column), LARGE)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return None
    column = column.cast(LARGE)
    column.validate(full=True)  # bytes that are not UTF-8
    starts = np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + len(column) + 1]
    data = np.frombuffer(column.buffers()[2] or b"", np.uint8)
    lengths = np.diff(starts)
    if lengths.max(initial=0) > MAX_TEXT_CHARS or not data[starts[0] : starts[-1]].all():  # a NUL
        return None
    odd = lengths <= SHORT
    some = np.flatnonzero(~odd)
    edges = data[starts[:-1][some]], data[starts[1:][some] - 1]
    odd[some] = np.logical_or.reduce([(edge <= ord(" ")) | (edge > ord("~")) for edge in edges])
    odd &= np.asarray(column.is_valid())
    return _stripped(column, np.flatnonzero(odd)) if odd.any() else column


def _stripped(column: pa.Array, rows: np.ndarray) -> pa.Array:
    values = column.take(pa.array(rows)).to_pylist()
    mended = pa.array([None if is_missing(value) else value.strip() for value in values], LARGE)
    mask = np.zeros(len(column), bool)
    mask[rows] = True
    return pc.replace_with_mask(column, pa.array(mask), mended)


def _times(column: pa.Array, unit: float) -> pa.Array | None:
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        column = texts(column)
        if column is None or not _all_match(column.drop_null(), DECIMAL):
            return None
        column = column.cast(pa.float64())
    elif column.null_count == len(column):
        return pa.nulls(len(column), pa.float64())
    elif not (pa.types.is_integer(kind) or pa.types.is_float32(kind) or pa.types.is_float64(kind)):
        return None
    known = np.asarray(column.is_valid())
    values = np.asarray(column.cast(pa.float64(), safe=False))
    known &= ~np.isnan(values)
    if not ((values[known] >= 0) & (values[known] < math.inf)).all():
        return None
    return pa.array(values * unit, mask=~known)


def _all_match(column: pa.Array, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(column, pattern)).as_py() or not len(column))


def _nulls(columns: Columns, kind: pa.DataType) -> pa.Array:
    return pa.nulls(len(next(iter(columns.values()))), kind)
