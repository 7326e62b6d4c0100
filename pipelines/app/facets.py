"""Histograms and counts per category of the clips that pass all other filters."""

from __future__ import annotations

from typing import Any

import numpy as np

from reelwright.pipelines.app.binning import BINS
from reelwright.pipelines.app.columns import Column, Numbers, Words

MOST_VALUES = 50


def facet(column: Column, mask: np.ndarray) -> dict[str, Any]:
    """Return what a page draws of a column over the clips in `mask`; `kind` is none where there is nothing to draw."""
    if isinstance(column, Numbers):
        return _histogram(column, mask)
    if isinstance(column, Words):
        return _counts(column, mask)
    return {"kind": "none"}


def _histogram(column: Numbers, mask: np.ndarray) -> dict[str, Any]:
    binned = column.binned
    if binned is None:
        return {"kind": "none"}
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
