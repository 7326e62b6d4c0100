"""Numbers in the bins of a histogram, each put into its bin once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BINS = 40
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


def in_bins(values: np.ndarray) -> Binned | None:
    """Put numbers [N] into bins; None where none of them is finite."""
    if not np.isfinite(values).any():
        return None
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
