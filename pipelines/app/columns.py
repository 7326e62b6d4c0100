"""Columns of clips in memory, as arrays that a filter runs over in a millisecond per million rows.

A column is read when it is first asked for, and again only when its files in the store have changed.
"""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelwright.curation.store import Store
from reelwright.curation.store.column_reader import ColumnReader, Signature
from reelwright.curation.store.errors import StoreError, unknown_name
from reelwright.errors import UserError
from reelwright.pipelines.app.binning import Binned, in_bins

TABLE, ID = "clips", "clip_id"
TRIES = 20
KEEP_BYTES = 400 << 20
"""Of columns that are kept in memory; at a million clips one of numbers takes some 17 MB with its orders."""
Made = TypeVar("Made")
MOST_WORDS = 1_000
"""Distinct values from which a text column is no category."""
_next = itertools.count().__next__


@dataclass(frozen=True, kw_only=True)
class _Numbered:
    """What has a number of its own, by which results about it are kept: an address is used again, a number is not."""

    number: int = field(default_factory=_next, compare=False, repr=False)


@dataclass(frozen=True)
class Numbers(_Numbered):
    """A column of N numbers or times. values: [N], NaN where there is none; times are seconds since 1970."""

    values: np.ndarray

    @cached_property
    def order(self) -> np.ndarray:
        """Rows by ascending value, those without one last; equal ones in the table's order. int32 [N]."""
        return np.argsort(self.values, kind="stable").astype(np.int32)

    @cached_property
    def binned(self) -> Binned | None:
        """The values in the bins of a histogram; None where none is finite."""
        return in_bins(self.values)

    @cached_property
    def present(self) -> int:
        """Number of rows with a value."""
        return int(np.count_nonzero(~np.isnan(self.values)))

    @cached_property
    def descending(self) -> np.ndarray:
        """Rows by descending value, those without one last. int32 [N]."""
        return np.concatenate([self.order[: self.present][::-1], self.order[self.present :]])


@dataclass(frozen=True)
class Words(_Numbered):
    """A column of N texts, or of truths, with few distinct values.

    Args:
        codes: int32 [N], place in `words`; -1 where there is none.
        words: distinct values in order.
    """

    codes: np.ndarray
    words: tuple[Any, ...]

    @cached_property
    def order(self) -> np.ndarray:
        """Rows by ascending value, those without one last. int32 [N]."""
        places = np.where(self.codes < 0, len(self.words), self.codes)
        return np.argsort(places, kind="stable").astype(np.int32)

    @cached_property
    def descending(self) -> np.ndarray:
        """Rows by descending value, those without one last. int32 [N]."""
        return np.argsort(-self.codes, kind="stable").astype(np.int32)


@dataclass(frozen=True)
class Texts(_Numbered):
    """A column of N texts with many distinct values, such as captions or ids."""

    texts: pa.Array

    @cached_property
    def order(self) -> np.ndarray:
        """Rows by ascending value, those without one last. int32 [N]."""
        return pc.sort_indices(self.texts).to_numpy().astype(np.int32)

    @cached_property
    def descending(self) -> np.ndarray:
        """Rows by descending value, those without one last. int32 [N]."""
        return pc.sort_indices(self.texts, sort_keys=[("", "descending")]).to_numpy().astype(np.int32)


Column = Numbers | Words | Texts


def steady(columns: Columns, make: Callable[[], Made]) -> Made:
    """Return what `make` returns once the rows stayed the same while it ran: a run of curation may add some meanwhile.

    Raises:
        UserError: the rows never stayed the same.
    """
    for _ in range(TRIES):
        columns.refresh()
        before = columns.generation
        try:
            made = make()
        except (IndexError, ValueError, OSError):  # of rows of two versions, or of files that a clean-up removed
            if columns.refresh() >= 0 and columns.generation == before:
                raise
            continue
        if columns.generation == before:
            return made
    raise UserError("the store changes faster than it can be read; try again in a moment")


class Columns:
    """The clips of a store, column by column.

    Args:
        store: to read.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.RLock()
        self._cache: OrderedDict[str, tuple[Signature, Column]] = OrderedDict()
        self._reader = ColumnReader(store, TABLE)
        self._rows: tuple[Signature, pa.Array, np.ndarray] | None = None

    def refresh(self) -> int:
        """Look at the newest version of the table, and return its number."""
        with self._lock:
            if self._store.dataset(TABLE).version != self._reader.version:
                self._reader = ColumnReader(self._store, TABLE)
            return self._reader.version

    @property
    def schema(self) -> pa.Schema:
        """Of the version that is shown."""
        return self._reader.schema

    @property
    def count(self) -> int:
        """Number of clips."""
        return len(self.ids)

    @property
    def generation(self) -> Signature:
        """Changes where rows are added, deleted or moved."""
        return self._reader.rows

    @property
    def ids(self) -> pa.Array:
        """Clip ids, [N]."""
        return self._identity()[0]

    def rows_of(self, clip_ids: Sequence[str]) -> np.ndarray:
        """Return the rows of some clips, in the table's order; ids that are none's are left out."""
        wanted = pa.array(clip_ids, self.ids.type)
        return np.flatnonzero(pc.is_in(self.ids, value_set=wanted).to_numpy(zero_copy_only=False))

    def places_of(self, clip_ids: Sequence[str]) -> np.ndarray:
        """Return the rows of some clips in the order of `clip_ids`; ids that are none's are left out."""
        rows = self.rows_of(clip_ids)
        place = {one: i for i, one in enumerate(clip_ids)}
        there = self.ids.take(pa.array(rows)).to_pylist()
        return rows[np.argsort([place[one] for one in there], kind="stable")] if len(rows) else rows

    def take(self, rows: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
        """Return some columns of some rows, in their order."""
        with self._lock:
            row_ids = self._identity()[1][rows].tolist()
            return self._reader.take(row_ids, names).to_pylist()

    def get(self, name: str) -> Column:
        """Return a column.

        Raises:
            StoreError: there is none of that name, or it holds neither numbers nor texts.
        """
        with self._lock:
            if name not in self.schema.names:
                raise unknown_name(name, "column of clips", self.schema.names, see="reel describe clips")
            signature = self._reader.signature(name)
            known = self._cache.get(name)
            if known is None or known[0] != signature:
                self._cache[name] = known = (signature, as_column(self._reader.column(name), name))
            self._cache.move_to_end(name)
            self._forget()
            return known[1]

    def _forget(self) -> None:
        """Let go of the columns that were asked for longest ago, where all take more memory than they may."""
        sizes = {name: held_bytes(column) for name, (_, column) in self._cache.items()}
        spare = sum(sizes.values()) - KEEP_BYTES
        for name in list(self._cache)[:-1]:
            if spare <= 0:
                return
            spare -= sizes[name]
            del self._cache[name]

    def has_nan(self, name: str) -> bool:
        """Whether a column of floats holds NaN beside its nulls."""
        with self._lock:
            if not pa.types.is_floating(self.schema.field(name).type):
                return False
            return bool(pc.any(pc.is_nan(self._reader.column(name))).as_py())

    def signature(self, name: str) -> Signature:
        """Return a value that changes with the column's values."""
        return self._reader.signature(name)

    def _identity(self) -> tuple[pa.Array, np.ndarray]:
        with self._lock:
            if self._rows is None or self._rows[0] != self._reader.rows:
                ids = self._reader.column(ID).combine_chunks()
                self._rows = (self._reader.rows, ids, self._reader.row_ids().to_numpy())
            return self._rows[1], self._rows[2]


def held_bytes(column: Column) -> int:
    """Return the memory of a column with its orders and bins, in bytes."""
    parts = list(vars(column).values())
    parts += [one.codes for one in parts if isinstance(one, Binned)]
    return sum(one.nbytes for one in parts if isinstance(one, np.ndarray | pa.Array))


def kind_of(field: pa.Field) -> str:
    """Return number, time, truth, text, or other for a column that is not filtered by its values."""
    kind = field.type
    if pa.types.is_boolean(kind):
        return "truth"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return "number"
    if pa.types.is_timestamp(kind):
        return "time"
    return "text" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else "other"


def as_column(values: pa.ChunkedArray, name: str) -> Column:
    """Return the array form of a column's values."""
    kind = kind_of(pa.field(name, values.type))
    if kind == "other":
        raise StoreError(f"{name} holds {values.type}; the page filters and sorts by numbers and texts.")
    if kind in ("number", "time"):
        return Numbers(_numbers(values, is_time=kind == "time"))
    if kind == "truth":
        codes = pc.fill_null(values.cast(pa.int8()), -1).to_numpy().astype(np.int32)
        return Words(codes, (False, True))
    coded = values.combine_chunks().dictionary_encode()
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.unify_dictionaries().combine_chunks()
    if len(coded.dictionary) > MOST_WORDS:
        return Texts(values.combine_chunks())
    order = pc.sort_indices(coded.dictionary).to_numpy()
    place = np.empty(len(order) + 1, np.int32)
    place[order], place[-1] = np.arange(len(order)), -1
    codes = place[pc.fill_null(coded.indices, len(order)).to_numpy()]
    return Words(codes, tuple(coded.dictionary.take(pa.array(order)).to_pylist()))


def _numbers(values: pa.ChunkedArray, *, is_time: bool) -> np.ndarray:
    if is_time:
        return _numbers(values.cast(pa.timestamp("us")).cast(pa.int64()), is_time=False) / 1e6
    wide = values.type if pa.types.is_float32(values.type) else pa.float64()
    return pc.fill_null(values.cast(wide, safe=False), float("nan")).to_numpy()
