"""Captions of many clips at once, as Arrow columns: for each row what `captions.Wanted.of` says of it.

No text becomes a Python object, so a million clips take a second or two.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelwright.curation.store.captions import CAPTION, COMPOSED, EDITED, FALLBACKS, SOURCE, Wanted
from reelwright.curation.store.connection import Connection

TEXTS = pa.list_(pa.large_string())
ROWS = 1 << 16  # that are read at a time
_FILE = "captions of the whole file"  # a column of rows, beside those of clips


@dataclass(frozen=True)
class CaptionLists:
    """Captions of N rows.

    texts: TEXTS, empty where a row has none. composed: bool [N], whether a row has captions, and every one is composed
    from measurements.
    """

    texts: pa.Array
    composed: np.ndarray

    @property
    def there(self) -> np.ndarray:
        """Whether a row has a caption, bool [N]."""
        return np.diff(self.texts.offsets.to_numpy()) > 0


@dataclass(frozen=True)
class SourceLists:
    """Captions that manifests give whole files. md5: of each file, large_string; texts: TEXTS, none empty."""

    md5: pa.Array
    texts: pa.Array

    def by_md5(self) -> dict[str, list[str]]:
        """Return the captions as Python objects."""
        return dict(zip(self.md5.to_pylist(), self.texts.to_pylist(), strict=True))

    def of(self, md5: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
        """Return the captions of each row's source, null where it has none."""
        return self.texts.take(pc.index_in(md5.cast(pa.large_string()), value_set=self.md5))


def caption_lists(rows: pa.Table, wanted: Wanted, of_source: SourceLists) -> CaptionLists:
    """Return the captions of clips.

    Args:
        rows: of clips, with `wanted.columns` and source_md5; columns that they lack count as empty.
        wanted: which captions.
        of_source: `source_lists` of the store.
    """
    if "source_md5" in rows.schema.names:
        rows = rows.append_column(_FILE, of_source.of(rows.column("source_md5")))
    parts = [_chosen(batch, wanted) for batch in rows.to_batches(ROWS)]
    texts = pa.concat_arrays([pa.array([], TEXTS), *(part.texts for part in parts)])
    return CaptionLists(texts, np.concatenate([np.empty(0, bool), *(part.composed for part in parts)]))


def source_lists(store: Connection, version: int | None = None) -> SourceLists:
    """Read manifests' captions of whole files; of files with the same bytes, those of the one that was cut."""
    names = store.dataset("sources", version).schema.names
    columns = [name for name in ("captions", "caption") if name in names]
    if not columns or "md5" not in names:
        return SourceLists(pa.array([], pa.large_string()), pa.array([], TEXTS))
    condition = " OR ".join(f"{name} IS NOT NULL" for name in columns)
    rows = store.read("sources", ["md5", "uri", "state", *columns], condition, version=version)
    uri, other = pc.fill_null(rows.column("uri"), ""), pc.fill_null(pc.not_equal(rows.column("state"), "ok"), True)
    by = [("other", "ascending"), ("uri", "ascending")]
    rows = rows.take(pc.sort_indices(pa.table({"other": other, "uri": uri}), by))
    both = [_lists(_large(rows.column(name)), SOURCE, ()).texts for name in columns]
    parents = np.concatenate([np.repeat(np.arange(len(rows)), np.diff(t.offsets.to_numpy())) for t in both])
    order = np.argsort(parents, kind="stable")
    parents, texts = parents[order], pa.concat_arrays([t.values for t in both]).take(pa.array(order))
    at = _firsts(parents, texts)
    joined = _of_rows(parents[at], texts.take(pa.array(at)), len(rows))
    md5 = rows.column("md5").cast(pa.large_string()).combine_chunks()
    usable = np.flatnonzero(
        (np.diff(joined.offsets.to_numpy()) > 0) & _true(pc.fill_null(pc.not_equal(md5, ""), False))
    )
    _, first = np.unique(md5.take(pa.array(usable)).dictionary_encode().indices.to_numpy(), return_index=True)
    kept = pa.array(usable[np.sort(first)])
    return SourceLists(md5.take(kept), joined.take(kept))


@dataclass(frozen=True)
class _Cells(CaptionLists):
    """Captions of one column. preferred: bool [N], whether the first one is of a kind that is asked for."""

    preferred: np.ndarray


def _chosen(rows: pa.RecordBatch, wanted: Wanted) -> CaptionLists:
    """Take each row's captions from the column that was asked for, else from a preferred one, else from any."""
    kinds = wanted.kinds
    asked = _column(rows, wanted.column, dict(FALLBACKS).get(wanted.column, wanted.column), kinds, only=kinds)
    others = [_column(rows, name, kind, kinds) for name, kind in FALLBACKS if kind != COMPOSED]
    others.append(_column(rows, _FILE, SOURCE, kinds))
    if COMPOSED in kinds:
        others.append(_column(rows, "composed_caption", COMPOSED, kinds))
    if wanted.takes_edits:
        others.append(_column(rows, EDITED, CAPTION, kinds))
    edited = [others[-1].there] if wanted.takes_edits else []
    usual = others[: len(others) - len(edited)]
    cells = [asked, *others]
    ways = [*edited, asked.there, *(one.there & one.preferred for one in usual), *(one.there for one in usual)]
    of = [len(others)] * len(edited) + [0, *range(1, len(usual) + 1), *range(1, len(usual) + 1)]
    place, row = np.full(len(rows), len(cells)), np.arange(len(rows))
    for way, number in zip(reversed(ways), reversed(of), strict=True):
        place[way] = number
    none = pa.ListArray.from_arrays(pa.array(np.zeros(len(rows) + 1, np.int32)), pa.array([], pa.large_string()))
    texts = pa.concat_arrays([*(one.texts for one in cells), none]).take(pa.array(place * len(rows) + row))
    composed = np.stack([*(one.composed for one in cells), np.zeros(len(rows), bool)])[place, row]
    return CaptionLists(texts, composed)


def _column(
    rows: pa.RecordBatch, name: str, kind: str, kinds: Collection[str], *, only: Collection[str] = ()
) -> _Cells:
    found = rows.column(name) if name in rows.schema.names else pa.nulls(len(rows))
    return _lists(found, kind, kinds, only=only)


def _lists(
    column: pa.Array | pa.ChunkedArray, kind: str, kinds: Collection[str], *, only: Collection[str] = ()
) -> _Cells:
    """Read cells of text, or of lists of texts or of structs with the fields text and kind; none blank, each once.

    Args:
        column: the cells.
        kind: of captions that do not say theirs.
        kinds: preferred ones.
        only: kinds of structs that are taken; none given: all but composed.
    """
    cells = _large(column)
    listed = pa.types.is_list(cells.type) or pa.types.is_large_list(cells.type)
    parents, items = np.arange(len(cells)), cells
    if listed:
        parents = np.repeat(parents, pc.fill_null(pc.list_value_length(cells), 0).to_numpy(zero_copy_only=False))
        items = pc.list_flatten(cells)
    texts, its, says = _items(items, kind)
    keep = _true(pc.fill_null(pc.not_equal(texts, ""), False)) & ~_true(pc.fill_null(pc.utf8_is_space(texts), False))
    if says:
        keep &= _true(
            pc.is_in(its, value_set=pa.array(sorted(only), its.type)) if only else pc.not_equal(its, COMPOSED)
        )
    at = np.flatnonzero(keep)
    at = at[_firsts(parents[at], texts.take(pa.array(at)))]
    parents, texts, its = parents[at], texts.take(pa.array(at)), its.take(pa.array(at))
    count = np.bincount(parents, minlength=len(cells))
    of_composed = np.bincount(parents[_true(pc.equal(its, COMPOSED))], minlength=len(cells))
    first, preferred = np.cumsum(count) - count, np.zeros(len(cells), bool)
    preferred[count > 0] = _true(pc.is_in(its, value_set=pa.array(sorted(kinds), its.type)))[first[count > 0]]
    return _Cells(_of_rows(parents, texts, len(cells)), (count > 0) & (of_composed == count), preferred)


def _items(items: pa.Array, kind: str) -> tuple[pa.Array, pa.Array, bool]:
    """(text and kind of each item, whether items say their kind)."""
    text, says = items, False
    its: pa.Array = pa.repeat(pa.scalar(kind, pa.large_string()), len(items))
    if pa.types.is_struct(items.type):
        names = [field.name for field in items.type]
        text = pc.struct_field(items, "text") if "text" in names else pa.nulls(len(items))
        says = "kind" in names
        if says:
            said = pc.fill_null(pc.struct_field(items, "kind").cast(pa.large_string()), "")
            its = pc.if_else(pc.equal(said, ""), its, said)
    if pa.types.is_dictionary(text.type):
        text = text.dictionary_decode()
    readable = pa.types.is_string(text.type) or pa.types.is_large_string(text.type)
    return (text if readable else pa.nulls(len(items))).cast(pa.large_string()), its, says


def _firsts(parents: np.ndarray, texts: pa.Array) -> np.ndarray:
    """Return the places of texts that their row has not had before. parents: row of each, ascending."""
    if not len(parents) or not (parents[1:] == parents[:-1]).any():
        return np.arange(len(parents))
    codes = texts.dictionary_encode()
    return np.sort(np.unique(parents * len(codes.dictionary) + codes.indices.to_numpy(), return_index=True)[1])


def _of_rows(parents: np.ndarray, texts: pa.Array, rows: int) -> pa.Array:
    """Return lists of the texts of each row. parents: row of each, ascending."""
    offsets = np.concatenate([[0], np.cumsum(np.bincount(parents, minlength=rows))])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), texts)


def _large(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return a column in one piece."""
    if isinstance(column, pa.Array):
        return column
    types = {pa.string(): pa.large_string(), pa.list_(pa.string()): TEXTS}
    return column.cast(types.get(column.type, column.type)).combine_chunks()


def _true(mask: pa.Array) -> np.ndarray:
    return mask.to_numpy(zero_copy_only=False).astype(bool)
