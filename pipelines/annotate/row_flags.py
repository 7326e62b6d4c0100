"""A bit per row of a table, in the stretches in which the table is read."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


class RowFlags:
    """Which rows have something. pieces: bool [rows] of each stretch, in order."""

    def __init__(self, pieces: Iterable[np.ndarray]) -> None:
        self._packed = [(len(piece), np.packbits(piece)) for piece in pieces]

    def __getitem__(self, stretch: int) -> np.ndarray:
        """Return bool [rows] of a stretch."""
        rows, packed = self._packed[stretch]
        return np.unpackbits(packed, count=rows).astype(bool)
