"""The clusters of a view: where they lie on the map, their names, and their sizes before and after weighting."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from reelwright.curation.store.weighting import STORE, Balance, weigh
from reelwright.errors import UserError
from reelwright.pipelines.app.columns import Numbers, Texts, Words
from reelwright.pipelines.app.selection import Selection

ID, NAME = "cluster_id", "cluster_name"
MIDDLE_OF = 200
"""Clips of a cluster by which its middle is found."""
BALANCED = {"density": "density", "cluster": ID}


def clusters_of(selection: Selection, mask: np.ndarray, plane: tuple[Numbers, Numbers], weights: str) -> dict[str, Any]:
    """Return the clusters of some clips, the largest first.

    Args:
        selection: to read columns by.
        mask: bool [N], the clips.
        plane: x and y of each clip.
        weights: a column of numbers, or density or cluster to balance by; empty weighs all alike.

    Raises:
        UserError: there is nothing to weigh by.
    """
    names = selection.columns.schema.names
    ids = selection.numbers(ID).values if ID in names else np.zeros(0)
    rows = np.flatnonzero(mask & np.isfinite(ids)) if len(ids) else ids
    if not len(rows):
        return {"list": [], "clips": 0, "effective": 0.0, "weights": ""}
    found, place, counts = _grouped(ids[rows].astype(np.int64))
    weight = _weights(selection, rows, weights)
    sums = np.bincount(place, weight, len(found))
    order = np.argsort(-counts, kind="stable")
    by_cluster = np.split(rows[np.argsort(place, kind="stable")], np.cumsum(counts)[:-1])
    label = _names(selection)
    return {
        "list": [
            {"id": int(found[i]), "name": label(by_cluster[i][0]), "clips": int(counts[i]),
             "share": float(counts[i] / len(rows)), "weighted": float(sums[i] / weight.sum()),
             **_middle(by_cluster[i], plane)}
            for i in order
        ],
        "clips": len(rows),
        "weights": weights,
        "effective": float(weight.sum() ** 2 / np.square(weight).sum()),
    }  # fmt: skip


def _grouped(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (ids, place of each row's id, counts), as np.unique does, by counting where ids are small numbers."""
    least, most = int(ids.min()), int(ids.max())
    if most - least >= 2**16:
        return np.unique(ids, return_inverse=True, return_counts=True)
    counts = np.bincount(ids - least)
    there = np.flatnonzero(counts)
    places = np.zeros(len(counts), np.uint16)  # which numpy sorts by counting
    places[there] = np.arange(len(there))
    return there + least, places[ids - least], counts[there]


def _names(selection: Selection) -> Any:
    """Return a function from a row to its cluster's name, empty where it has none."""
    column = selection.columns.get(NAME) if NAME in selection.columns.schema.names else None

    def name(row: int) -> str:
        if isinstance(column, Words):
            return str(column.words[column.codes[row]]) if column.codes[row] >= 0 else ""
        return str(column.texts[int(row)].as_py() or "") if isinstance(column, Texts) else ""

    return name


def _middle(rows: np.ndarray, plane: tuple[Numbers, Numbers]) -> dict[str, float | None]:
    some = rows[:: max(1, len(rows) // MIDDLE_OF)]
    at = [one.values[some][np.isfinite(one.values[some])] for one in plane]
    return {name: float(np.median(one)) if len(one) else None for name, one in zip(("x", "y"), at, strict=True)}


def _weights(selection: Selection, rows: np.ndarray, name: str) -> np.ndarray:
    """Return the weight of each of some clips, float64 [N], as a snapshot of them would have it."""
    if not name:
        return np.ones(len(rows))
    column = BALANCED.get(name, name)
    if column not in selection.columns.schema.names:
        raise UserError(f"there is no column {column[:60]} to weigh by")
    values = selection.numbers(column).values[rows].astype(np.float64)
    if name in BALANCED:
        balance = Balance("density", within=STORE) if name == "density" else Balance("cluster")
        return weigh(pa.chunked_array([pa.array(values)]), _made(selection, column, rows), balance).weights
    weights = np.nan_to_num(np.maximum(values, 0.0), nan=0.0, posinf=0.0)
    if not weights.sum():
        raise UserError(f"no clip shown has a weight above 0 in {name[:60]}")
    return weights


def _made(selection: Selection, column: str, rows: np.ndarray) -> pa.ChunkedArray:
    """Return the fingerprint of each value, where there are several; else nothing, which is alike for all."""
    maker = {ID: "clusters"}.get(column, column)
    name = f"{maker}_fingerprint"
    nothing = pa.chunked_array([pa.nulls(len(rows), pa.string())])
    if name not in selection.columns.schema.names:
        return nothing
    found = selection.columns.get(name)
    if not isinstance(found, Words) or len(found.words) < 2:
        return nothing
    codes = found.codes[rows]
    return pa.chunked_array([pa.array(found.words, pa.string()).take(pa.array(codes, mask=codes < 0))])
