"""Snapshots from the page: the view is frozen as the query that it is, and two snapshots are set side by side."""

from __future__ import annotations

import threading
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from reelwright.curation.store import Store
from reelwright.curation.store.sql_text import identifier
from reelwright.curation.store.weighting import Balance
from reelwright.errors import UserError
from reelwright.pipelines.app.columns import Numbers, Words, as_column, kind_of
from reelwright.pipelines.app.selection import Selection
from reelwright.pipelines.app.view import Name, Strict, View, query

_one_at_a_time = threading.Lock()
BALANCES = ("density", "cluster")
BINS, MOST_LISTED, MOST_COMPARED = 24, 60, 12


class Freeze(Strict):
    """A snapshot to be. weights: a column of clips, or density or cluster to balance by; empty weighs all alike."""

    name: Name
    view: View = View()
    weights: Name = ""
    limit: Annotated[int | None, Field(ge=1, le=2**31)] = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


class Compare(Strict):
    """Two snapshots to set side by side; columns: to compare the distributions of."""

    a: Name
    b: Name
    columns: Annotated[list[Name], Field(max_length=MOST_COMPARED)] = []


def freeze(store: Store, selection: Selection, asked: Freeze) -> dict[str, Any]:
    """Freeze the clips of a view.

    Raises:
        StoreError: the name is taken, or a column is not there.
        UserError: decisions are not in the columns of clips yet, so that the query would not see them.
    """
    if not selection.reviews.settle():
        raise UserError(f"{selection.reviews.waiting} Save the snapshot once that run has ended.")
    sql = _weighed(selection, asked)
    weights = Balance(asked.weights) if asked.weights in BALANCES else asked.weights or None
    with _one_at_a_time:
        made = store.snapshots.create(
            asked.name, sql, limit=asked.limit, seed=asked.seed, weights=weights, distinct=asked.view.fold
        )
    return {"name": made.name, "clips": made.num_clips, "hash": made.content_hash, "sql": sql[:2_000]}


def as_arguments(selection: Selection, asked: Freeze) -> dict[str, Any]:
    """Return the arguments of `reel snapshot create` that freezes the same clips."""
    made = {
        "name": asked.name, "sql": _weighed(selection, asked), "distinct": asked.view.fold, "limit": asked.limit,
        "seed": asked.seed, "balance" if asked.weights in BALANCES else "weights": asked.weights,
    }  # fmt: skip
    return {name: value for name, value in made.items() if value}


def _weighed(selection: Selection, asked: Freeze) -> str:
    """Return the query, with the column of weights where one was asked for."""
    sql = sql_of(selection, asked.view)
    if not asked.weights or asked.weights in BALANCES:
        return sql
    selection.columns.get(asked.weights)
    return sql.replace("SELECT clip_id", f"SELECT clip_id, {identifier(asked.weights)}", 1)


def sql_of(selection: Selection, view: View) -> str:
    """Return the SELECT of a view's clips."""
    ids = selection.found_ids(view.search) if view.search is not None else []
    nan = frozenset(name for name in view.ranges if selection.has_nan(name))
    return query(view, ids, nan)


def compare(store: Store, asked: Compare) -> dict[str, Any]:
    """Return the sizes of two snapshots, which clips came and went, and distributions of columns in both."""
    diff = store.snapshots.diff(asked.a, asked.b)
    both = {name: store.snapshots.show(name) for name in (asked.a, asked.b)}
    names = {f.name: f for f in store.schema("clips")}
    for name in asked.columns:
        if name not in names or kind_of(names[name]) == "other":
            raise UserError(f"{name[:60]} is no column of clips with numbers or words")
    return {
        "a": {"name": asked.a, "clips": both[asked.a].num_clips},
        "b": {"name": asked.b, "clips": both[asked.b].num_clips},
        "kept": diff.kept, "added": len(diff.added), "removed": len(diff.removed), "reweighted": len(diff.reweighted),
        "came": diff.added[:MOST_LISTED], "went": diff.removed[:MOST_LISTED],
        "columns": {name: _beside(store, asked.a, asked.b, name) for name in asked.columns},
    }  # fmt: skip


def _beside(store: Store, a: str, b: str, name: str) -> dict[str, Any]:
    """Return the distribution of one column in two snapshots over the same bins, each as it was when frozen."""
    sides = [as_column(store.snapshots.clips_table(one, [name]).column(name), name) for one in (a, b)]
    if all(isinstance(side, Numbers) for side in sides):
        values = [side.values[np.isfinite(side.values)].astype(float) for side in sides if isinstance(side, Numbers)]
        joined = np.concatenate(values)
        if not len(joined):
            return {"kind": "none"}
        edges = np.histogram_bin_edges(joined, BINS)
        return {"kind": "histogram", "edges": edges.tolist(), "a": np.histogram(values[0], edges)[0].tolist(),
                "b": np.histogram(values[1], edges)[0].tolist()}  # fmt: skip
    if all(isinstance(side, Words) for side in sides):
        counts = [_word_counts(side) for side in sides if isinstance(side, Words)]
        words = sorted({*counts[0], *counts[1]}, key=lambda w: -max(counts[0].get(w, 0), counts[1].get(w, 0)))[:BINS]
        return {"kind": "counts", "words": words, "a": [counts[0].get(w, 0) for w in words],
                "b": [counts[1].get(w, 0) for w in words]}  # fmt: skip
    return {"kind": "none"}


def _word_counts(side: Words) -> dict[str, int]:
    counts = np.bincount(side.codes + 1, minlength=len(side.words) + 1)
    return {str(word): int(count) for word, count in zip(side.words, counts[1:], strict=True)}
