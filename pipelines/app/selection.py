"""The clips of a view: one mask per filter over all clips, combined, folded and put in order."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelwright.curation.store import Store
from reelwright.curation.store.untrusted import sql_untrusted
from reelwright.errors import UserError
from reelwright.pipelines.app.captions import SourceCaptions
from reelwright.pipelines.app.columns import Column, Columns, Numbers, Texts, Words, kind_of
from reelwright.pipelines.app.polygon import inside
from reelwright.pipelines.app.reviews import Reviews
from reelwright.pipelines.app.view import LASSO, SEARCH, WHERE, Search, View

MASKS = 64  # of filters that are kept; a megabyte each at a million clips
GROUP = "near_duplicate_group"
RANDOM, NEAR_BOUND = "random", "near_bound"
SQL_S = 20.0


@dataclass(frozen=True)
class Chosen:
    """Clips of a view.

    Args:
        mask: bool [N], the clips that are shown.
        others: filter -> bool [N], the clips that pass all filters but this one.
        passing: number of clips that pass all filters.
    """

    mask: np.ndarray
    others: dict[str, np.ndarray]
    passing: int


class Selection:
    """Computes views over the clips of a store, and keeps what a moving slider asks for again.

    Args:
        store: to search and query.
        columns: of its clips.
        reviews: decisions, which are columns too.
    """

    def __init__(self, store: Store, columns: Columns, reviews: Reviews) -> None:
        self.store, self.columns, self.reviews = store, columns, reviews
        self.source_captions = SourceCaptions(store)
        self._lock = threading.RLock()
        self._kept: OrderedDict[Any, Any] = OrderedDict()

    def column(self, name: str) -> Column:
        """Return a column of clips, or of their reviews."""
        return self.reviews.column(name) if name in self.reviews.names else self.columns.get(name)

    def numbers(self, name: str) -> Numbers:
        """Return a column of numbers. Raises UserError where it holds something else."""
        values = self.column(name)
        is_time = name in self.reviews.names or kind_of(self.columns.schema.field(name)) == "time"
        if not isinstance(values, Numbers) or is_time:
            raise UserError(f"{name[:60]} holds no numbers, so it is no axis of a map")
        return values

    def choose(self, view: View) -> Chosen:
        """Return the clips of a view.

        Raises:
            StoreError: a filter names something that is not there, or its SQL is wrong.
            UserError: a search cannot be made.
        """
        names = view.filters()
        masks = {name: self._mask(view, name) for name in names}
        everything = np.ones(self.columns.count, bool)
        others = {name: _all((m for n, m in masks.items() if n != name), everything) for name in names}
        passing = others[names[0]] & masks[names[0]] if names else everything
        if view.show == "kept":
            shown = passing
        elif view.show == "removed":
            shown = ~passing
        elif view.show in masks:
            shown = others[view.show] & ~masks[view.show]
        else:
            raise UserError(f"{view.show!r} is no filter of this view; show is kept, removed or one of: {names}")
        return Chosen(self._folded(shown) if view.fold else shown, others, int(np.count_nonzero(passing)))

    def ordered(self, view: View, mask: np.ndarray) -> np.ndarray:
        """Return the rows of `mask` in the view's order."""
        if view.sort == RANDOM:
            order = self._keep((RANDOM, view.seed, len(mask)), lambda: _shuffled(len(mask), view.seed))
        elif view.sort == NEAR_BOUND:
            order = self._near_bound(view)
        elif view.sort:
            column = self.column(view.sort)
            order = column.descending if view.descending else column.order
        elif view.search is not None:
            found = self._found(view.search)
            return found[mask[found]] if view.show == "kept" else np.flatnonzero(mask)
        else:
            return np.flatnonzero(mask)
        return order[mask[order]]

    def found_ids(self, search: Search) -> list[str]:
        """Return the ids that a search found, the nearest first."""
        ids: list[str] = self.columns.ids.take(pa.array(self._found(search))).to_pylist()
        return ids

    def similarities(self, search: Search) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and similarities of the clips nearest to a search, the nearest first, whatever its least one."""
        from reelwright.pipelines.browse import search as by_meaning

        version = self.columns.refresh()
        column = by_meaning.VISUAL if search.visual else by_meaning.CAPTION

        def run() -> tuple[np.ndarray, np.ndarray]:
            if search.like:
                if len(self.columns.rows_of([search.like])) == 0:
                    raise UserError(f"there is no clip {search.like[:40]}")
                found = by_meaning.similar(self.store, search.like, search.count, column=column).rows
            else:
                found = by_meaning.search(self.store, search.text, search.count, column=column).rows
            of_id = dict(zip(found.column("clip_id").to_pylist(), found.column("score").to_pylist(), strict=True))
            rows = self.columns.places_of(list(of_id))
            ids = self.columns.ids.take(pa.array(rows)).to_pylist()
            return rows, np.array([of_id[one] for one in ids], np.float32)

        return self._keep((SEARCH, search.model_dump_json(exclude={"least"}), version), run)

    def has_nan(self, name: str) -> bool:
        """Whether a column of numbers may hold NaN, which SQL takes for larger than any number."""
        return name not in self.reviews.names and self.columns.has_nan(name)

    # --- masks ---------------------------------------------------------------------------------------------------

    def _mask(self, view: View, name: str) -> np.ndarray:
        kind, _, column = name.partition(":")
        if name == WHERE:
            return self._where(view.where)
        if name == SEARCH and view.search is not None:
            mask = np.zeros(self.columns.count, bool)
            mask[self._found(view.search)] = True
            return mask
        if name == LASSO and view.lasso is not None:
            x, y = self.numbers(view.lasso.x), self.numbers(view.lasso.y)
            corners = view.lasso.points
            return self._keep((view.key(name), x.number, y.number), lambda: inside(x.values, y.values, corners))
        values = self.column(column)
        key = (view.key(name), values.number)
        if kind == "range":
            return self._keep(key, lambda: within(values, view.ranges[column], column))
        return self._keep(key, lambda: self._among(column, values, view.values[column]))

    def _among(self, name: str, values: Column, wanted: Sequence[Any]) -> np.ndarray:
        return self.reviews.tagged(wanted) if name == "review_tags" else among(values, wanted, name)

    def _where(self, condition: str) -> np.ndarray:
        self.reviews.settle_for(condition)
        version = self.columns.refresh()

        def run() -> np.ndarray:
            query = f"SELECT clip_id FROM clips_full WHERE ({condition}\n)"
            found = sql_untrusted(self.store, query, max_rows=self.columns.count, timeout_s=SQL_S)
            ids = found.rows.column(0).combine_chunks()
            return pc.is_in(self.columns.ids, value_set=ids).to_numpy(zero_copy_only=False)

        return self._keep((WHERE, condition, version), run)

    def _found(self, search: Search) -> np.ndarray:
        rows, similarities = self.similarities(search)
        return rows if search.least is None else rows[similarities >= np.float32(search.least)]

    def _near_bound(self, view: View) -> np.ndarray:
        """Return all rows, the ones first whose values lie nearest to a bound of the view, in standard deviations."""
        bounds = [(name, one) for name, both in view.ranges.items() for one in both if one is not None]
        if not bounds:
            raise UserError("no filter has a bound yet; drag the end of a histogram first")
        columns = {name: self.column(name) for name, _ in bounds}

        def run() -> np.ndarray:
            nearest = np.full(self.columns.count, np.inf)
            for name, bound in bounds:
                column = columns[name]
                if isinstance(column, Numbers):
                    values = column.values.astype(np.float64)
                    nearest = np.fmin(nearest, np.abs(values - bound) / (float(np.nanstd(values)) or 1.0))
            return np.argsort(nearest, kind="stable").astype(np.int32)

        return self._keep((NEAR_BOUND, tuple(bounds), tuple(one.number for one in columns.values())), run)

    # --- near duplicates -----------------------------------------------------------------------------------------

    def _folded(self, mask: np.ndarray) -> np.ndarray:
        """Keep of each group of near duplicates the clip that `reel snapshot create --distinct` keeps."""
        if GROUP not in self.columns.schema.names:
            raise UserError("near duplicates are not known yet; find them with: reel annotate --only near_duplicates")
        group, rank = self._keep((GROUP, self.columns.signature(GROUP), self.columns.generation), self._groups)
        rows = rank[mask[rank]]
        codes = group[rows]
        first = np.full(int(group.max(initial=-1)) + 2, -1)
        first[codes[::-1]] = np.arange(len(rows))[::-1]  # of equal places the last is written, which is the best
        kept = np.zeros(len(mask), bool)
        kept[rows[codes < 0]] = True
        kept[rows[first[:-1][first[:-1] >= 0]]] = True
        return kept

    def _groups(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (group of each row, -1 where none is known; rows, the best of any group first)."""
        values = self.columns.get(GROUP)
        if isinstance(values, Texts):
            coded = values.texts.dictionary_encode()
            codes = pc.fill_null(coded.indices, -1).to_numpy()
        else:
            codes = values.codes if isinstance(values, Words) else np.full(self.columns.count, -1)
        width, height, length = (self.columns.get(name) for name in ("width", "height", "num_frames"))
        size = width.values * height.values  # type: ignore[union-attr]
        by_id = np.empty(self.columns.count, np.int64)
        by_id[pc.sort_indices(self.columns.ids).to_numpy()] = np.arange(self.columns.count)
        return codes, np.lexsort((by_id, -length.values, -size)).astype(np.int32)  # type: ignore[union-attr]

    def _keep(self, key: Any, make: Callable[[], Any]) -> Any:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = make()
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > MASKS:
                self._kept.popitem(last=False)
        return made


def within(values: Column, bounds: tuple[float | None, float | None], name: str) -> np.ndarray:
    """Return which rows lie in [least, most], bool [N]; rows without a value do not."""
    if not isinstance(values, Numbers):
        raise UserError(f"{name} holds no numbers; choose values of it")
    numbers, (least, most) = values.values, bounds
    mask = ~np.isnan(numbers)
    if least is not None:
        mask &= numbers >= numbers.dtype.type(least)
    if most is not None:
        mask &= numbers <= numbers.dtype.type(most)
    return mask


def among(values: Column, wanted: Sequence[Any], name: str) -> np.ndarray:
    """Return which rows hold one of the wanted values, bool [N]; None is wanted where there is no value."""
    if isinstance(values, Words):
        known = [i for i, word in enumerate(values.words) if any(word == one and _same(word, one) for one in wanted)]
        mask = np.isin(values.codes, known)
        return mask | (values.codes < 0) if None in wanted else mask
    if isinstance(values, Texts):
        texts = pa.array([one for one in wanted if isinstance(one, str)], values.texts.type)
        mask = pc.is_in(values.texts, value_set=texts).to_numpy(zero_copy_only=False)
        return mask | pc.is_null(values.texts).to_numpy(zero_copy_only=False) if None in wanted else mask
    raise UserError(f"{name} holds numbers; give it a range")


def _same(word: Any, one: Any) -> bool:
    return isinstance(word, bool) == isinstance(one, bool)


def _all(masks: Iterable[np.ndarray], start: np.ndarray) -> np.ndarray:
    result = start.copy()
    for mask in masks:
        result &= mask
    return result


def _shuffled(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(count).astype(np.int32)
