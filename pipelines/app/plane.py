"""The map of a view: its clips as points of a plane, counted in cells, and as many single points as a page draws."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import Field

from reelwright.errors import UserError
from reelwright.pipelines.app.clusters import clusters_of
from reelwright.pipelines.app.columns import Column, Numbers, Texts, Words, steady
from reelwright.pipelines.app.polygon import Coordinate
from reelwright.pipelines.app.selection import Selection
from reelwright.pipelines.app.view import Name, Strict, View

MOST_DOTS = 4_000
MOST_COLOURS = 1_000
"""Categories that are told apart."""
SCALE_OF = 20_000
"""Clips by which the ends of a measure's colours are found."""
MARGIN = 0.04
"""Share of the width around all points."""
CLUSTER = "cluster_id"


class Plane(Strict):
    """A request for the map of a view.

    Attributes:
        view: whose clips are drawn; its lasso is left out, so that there is something to draw another one around.
        x: column of numbers. y: another.
        box: x0, y0, x1, y1 of the part to show; null shows all clips.
        across: cells. down: cells.
        colour: a column; empty: how many clips a cell holds.
        weights: for the clusters' sizes: a column of numbers, or density or cluster to balance by; empty weighs alike.
    """

    view: View = View()
    x: Name = "map_x"
    y: Name = "map_y"
    box: tuple[Coordinate, Coordinate, Coordinate, Coordinate] | None = None
    across: Annotated[int, Field(ge=1, le=400)] = 200
    down: Annotated[int, Field(ge=1, le=400)] = 150
    colour: Name = ""
    weights: Name = ""


def plane(selection: Selection, asked: Plane) -> dict[str, Any]:
    """Return what a page draws.

    Raises:
        UserError: the columns are no numbers, or there is nothing to weigh by.
        StoreError: there is no such column.
    """
    selection.reviews.refresh()
    return steady(selection.columns, lambda: _plane(selection, asked))


def _plane(selection: Selection, asked: Plane) -> dict[str, Any]:
    x, y = selection.numbers(asked.x), selection.numbers(asked.y)
    chosen = selection.choose(asked.view)
    around = chosen.mask if asked.view.lasso is None else selection.choose(_without_lasso(asked.view)).mask
    placed = around & np.isfinite(x.values) & np.isfinite(y.values)
    rows = np.flatnonzero(placed)
    px, py = x.values[rows].astype(np.float64), y.values[rows].astype(np.float64)
    box = _box(px, py, asked)
    cells = _cells(px, py, box, asked)
    inside = np.flatnonzero(cells >= 0)
    dots = _spread(rows[inside], MOST_DOTS)
    colours = selection.column(asked.colour) if asked.colour else None
    return {
        "box": box, "clips": len(rows), "without": int(np.count_nonzero(around)) - len(rows), "inside": len(inside),
        "cells": _counted(cells[inside], rows[inside], colours, asked),
        "dots": {
            "clip_id": selection.columns.ids.take(dots).to_pylist(), "x": x.values[dots].tolist(),
            "y": y.values[dots].tolist(), "colour": _colours_of(colours, dots, asked.colour),
        },
        "scale": _scale(colours, asked.colour),
        "clusters": clusters_of(selection, chosen.mask, (x, y), asked.weights),
    }  # fmt: skip


def _without_lasso(view: View) -> View:
    return view.model_copy(update={"lasso": None, "show": "kept" if view.show == "lasso" else view.show})


def _box(x: np.ndarray, y: np.ndarray, asked: Plane) -> tuple[float, float, float, float]:
    """Return the part that is shown, both axes to one scale."""
    if asked.box is not None:
        x0, y0, x1, y1 = asked.box
        if x1 <= x0 or y1 <= y0:
            raise UserError("a part of the map has its smaller corner first")
        return asked.box
    if not len(x):
        return (-1.0, -1.0, 1.0, 1.0)
    middle = (float(x.min() + x.max()) / 2, float(y.min() + y.max()) / 2)
    half = max(float(np.ptp(x)) / asked.across, float(np.ptp(y)) / asked.down, 1e-6) * (0.5 + MARGIN)
    wide, high = half * asked.across, half * asked.down
    return (middle[0] - wide, middle[1] - high, middle[0] + wide, middle[1] + high)


def _cells(x: np.ndarray, y: np.ndarray, box: tuple[float, float, float, float], asked: Plane) -> np.ndarray:
    """Return the cell of each point, rows from the top, int [N]; -1 outside of the box."""
    x0, y0, x1, y1 = box
    column = np.floor((x - x0) / (x1 - x0) * asked.across)
    row = np.floor((y1 - y) / (y1 - y0) * asked.down)
    there = (column >= 0) & (column < asked.across) & (row >= 0) & (row < asked.down)
    return np.where(there, row * asked.across + column, -1).astype(np.int64)


def _spread(rows: np.ndarray, most: int) -> np.ndarray:
    """Return at most so many rows, the same ones each time, from all over the table."""
    if len(rows) <= most:
        return rows
    hashed = (rows.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)
    return np.sort(rows[np.argpartition(hashed, most)[:most]])


def _counted(cells: np.ndarray, rows: np.ndarray, colours: Column | None, asked: Plane) -> dict[str, Any]:
    """Return the cells that hold clips: their place, number of clips and colour."""
    counts = np.bincount(cells, minlength=asked.across * asked.down)
    at = np.flatnonzero(counts)
    found: dict[str, Any] = {"at": at.tolist(), "count": counts[at].tolist(), "colour": None}
    if colours is None:
        return found
    codes = _codes(colours, asked.colour)
    if codes is not None:
        found["colour"] = _commonest(cells, codes[rows], at)
    elif isinstance(colours, Numbers):
        values = colours.values[rows].astype(np.float64)
        known = np.isfinite(values)
        sums = np.bincount(cells[known], values[known], len(counts))[at]
        some = np.bincount(cells[known], minlength=len(counts))[at]
        means = np.divide(sums, some, out=np.full(len(at), np.nan), where=some > 0)
        found["colour"] = [None if np.isnan(one) else float(f"{one:.4g}") for one in means]
    return found


def _commonest(cells: np.ndarray, codes: np.ndarray, at: np.ndarray) -> list[int]:
    """Return the commonest code of each cell of `at`, the smallest of several."""
    words, most = np.unique(codes, return_inverse=True) if codes.max(initial=0) > MOST_COLOURS else (None, codes + 1)
    kinds = int(most.max(initial=0)) + 1
    if words is not None and kinds > MOST_COLOURS:
        raise UserError(f"more than {MOST_COLOURS} values are too many to colour by; choose a column with fewer")
    place = np.zeros(int(at.max(initial=0)) + 1, np.int64)
    place[at] = np.arange(len(at))
    counts = np.bincount(place[cells] * kinds + most, minlength=len(at) * kinds).reshape(len(at), kinds)
    best = counts.argmax(1)
    return [int(one) for one in (words[best] if words is not None else best - 1)]


def _codes(column: Column, name: str) -> np.ndarray | None:
    """Return a category per row, int [N], -1 where there is none; None where the column is a measure."""
    if isinstance(column, Words):
        return column.codes.astype(np.int64)
    if isinstance(column, Numbers) and name == CLUSTER:
        return np.where(np.isfinite(column.values), column.values, -1).astype(np.int64)
    if isinstance(column, Texts):
        raise UserError(f"{name[:60]} has too many values to colour by; choose one with numbers or few words")
    return None


def _colours_of(column: Column | None, rows: np.ndarray, name: str) -> list[Any] | None:
    if column is None:
        return None
    codes = _codes(column, name)
    if codes is not None:
        return [int(one) for one in codes[rows]]
    assert isinstance(column, Numbers)
    return [float(f"{one:.4g}") if np.isfinite(one) else None for one in column.values[rows].astype(np.float64)]


def _scale(column: Column | None, name: str) -> dict[str, Any]:
    """Return what colours stand for: words by their code, or the ends of a measure, its outermost percent aside."""
    if column is None:
        return {"kind": "count"}
    if _codes(column, name) is not None:
        words = [str(one) for one in column.words[:MOST_COLOURS]] if isinstance(column, Words) else []
        return {"kind": "words", "words": words}
    assert isinstance(column, Numbers)
    some = column.values[:: max(1, len(column.values) // SCALE_OF)]
    finite = some[np.isfinite(some)]
    if not len(finite):
        return {"kind": "count"}
    least, most = (float(one) for one in np.quantile(finite.astype(np.float64), [0.01, 0.99]))
    return {"kind": "number", "least": least, "most": most}
