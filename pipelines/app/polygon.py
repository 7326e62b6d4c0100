"""Whether points lie in a polygon, over arrays and as a condition in SQL; both give the same answer to the last bit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

MOST_POINTS = 100
FARTHEST = 1e12
"""Of a coordinate: products of two stay finite."""
Coordinate = Annotated[float, Field(ge=-FARTHEST, le=FARTHEST, allow_inf_nan=False)]
Point = tuple[float, float]


def inside(x: np.ndarray, y: np.ndarray, corners: Sequence[Point]) -> np.ndarray:
    """Return which points lie in a polygon by the even-odd rule, bool [N]; NaN lies outside.

    Args:
        x: [N].
        y: [N].
        corners: of the polygon, the last joined to the first.
    """
    near = np.ones(len(x), bool)
    for values, ends in zip((x, y), np.array(corners).T, strict=True):
        spare = 1e-6 * (np.ptp(ends) + np.abs(ends).max())  # more than rounding adds, here and below
        near &= (values >= ends.min() - spare) & (values <= ends.max() + spare)
    rows = np.flatnonzero(near)
    px, py = x[rows].astype(np.float64), y[rows].astype(np.float64)
    odd = np.zeros(len(rows), bool)
    for slope, (ax, ay), by in _edges(corners):
        odd ^= ((py < ay) != (py < by)) & (px < slope * (py - ay) + ax)
    mask = np.zeros(len(x), bool)
    mask[rows[odd]] = True
    return mask


def condition(x: str, y: str, corners: Sequence[Point]) -> str:
    """Return the condition in SQL by which a row lies in a polygon; null where a coordinate is.

    Args:
        x: quoted name of a column.
        y: quoted name of a column.
        corners: of the polygon, the last joined to the first.
    """
    x, y = f"CAST({x} AS DOUBLE)", f"CAST({y} AS DOUBLE)"
    crossed = [
        f"CAST(({y} < {_double(ay)}) <> ({y} < {_double(by)}) "
        f"AND {x} < {_double(slope)} * ({y} - {_double(ay)}) + {_double(ax)} AS INTEGER)"
        for slope, (ax, ay), by in _edges(corners)
    ]
    return f"({' + '.join(crossed)}) % 2 = 1" if crossed else "false"


def _edges(corners: Sequence[Point]) -> Iterator[tuple[float, Point, float]]:
    """Yield (slope dx / dy, one end, the other end's y) of each edge that a level line can cross."""
    for (ax, ay), (bx, by) in zip(corners, [*corners[1:], corners[0]], strict=True):
        slope = (bx - ax) / (by - ay) if by != ay else float("inf")
        if abs(slope) != float("inf"):
            yield slope, (ax, ay), by


def _double(value: float) -> str:
    """Return a literal that DuckDB reads as DOUBLE, not as DECIMAL, whose conversion may round otherwise."""
    return f"{value:.17e}"
