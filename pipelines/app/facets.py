"""Histograms and counts per category of the clips that pass all other filters."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from reelwright.pipelines.app.columns import Column, Numbers, Words

BINS = 40
MOST_VALUES = 50
TAIL, LONG_TAIL = 0.002, 0.5
"""Where the middle 99.6 % of values fill less than half of the range, the histogram shows them alone."""


@dataclass(frozen=True)
class Binned:
    """A column of numbers in bins.

    Args:
        edges: [BINS + 1]; the first and last bin hold all beyond, too.
        codes: uint8 [N], the bin of each row; BINS where there is no value.
        least: smallest value. most: largest value.
    """

    edges: np.ndarray
    codes: np.ndarray
    least: float
    most: float


def facet(column: Column, mask: np.ndarray) -> dict[str, Any]:
    """Return what a page draws of a column over the clips in `mask`; `kind` is none where there is nothing to draw."""
    if isinstance(column, Numbers):
        return _histogram(column, mask)
    if isinstance(column, Words):
        return _counts(column, mask)
    return {"kind": "none"}


def _histogram(column: Numbers, mask: np.ndarray) -> dict[str, Any]:
    if not np.isfinite(column.values).any():
        return {"kind": "none"}
    binned = bins_of(_Same(column))
    counts = np.bincount(binned.codes[mask], minlength=BINS + 1)
    return {
        "kind": "histogram", "edges": binned.edges.tolist(), "counts": counts[:BINS].tolist(),
        "missing": int(counts[BINS]), "least": binned.least, "most": binned.most,
    }  # fmt: skip


def _counts(column: Words, mask: np.ndarray) -> dict[str, Any]:
    counts = np.bincount(column.codes[mask] + 1, minlength=len(column.words) + 1)
    order = np.argsort(-counts[1:], kind="stable")[:MOST_VALUES]
    values = [{"value": column.words[i], "count": int(counts[i + 1])} for i in order]
    return {
        "kind": "counts", "values": values, "missing": int(counts[0]),
        "more": max(0, len(column.words) - MOST_VALUES),
    }  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Same:
    """A column by identity, as a key."""

    column: Numbers

    def __hash__(self) -> int:
        return id(self.column)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.column is self.column


@lru_cache(maxsize=64)
def bins_of(key: _Same) -> Binned:
    """Put a column's values into bins once; `key` holds the column."""
    values = key.column.values
    found = values[np.isfinite(values)].astype(np.float64)
    least, most = float(found.min()), float(found.max())
    low, high = (float(x) for x in np.quantile(found, [TAIL, 1 - TAIL])) if len(found) > 1 / TAIL else (least, most)
    if (high - low) >= LONG_TAIL * (most - least) or high <= low:
        low, high = least, most
    width = (high - low) / BINS or 1.0
    finite = np.nan_to_num(values.astype(np.float64), nan=low, posinf=high, neginf=low)
    codes = np.clip((finite - low) / width, 0, BINS - 1).astype(np.uint8)
    codes[np.isnan(values)] = BINS
    return Binned(low + width * np.arange(BINS + 1), codes, least, most)
