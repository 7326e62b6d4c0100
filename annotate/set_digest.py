"""A fingerprint of a set of rows that needs neither their order nor all of them at once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

_ODD = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


class SetDigest:
    """Sums of hashes of rows of text. The same rows have the same digest, in whatever order and pieces they come.

    It tells sets apart by accident alone: whoever wants two sets with one digest can make them.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._sums = [np.uint64(0), np.uint64(0)]

    def add(self, columns: Iterable[pa.Array | pa.ChunkedArray]) -> None:
        """Add rows. columns: of text, all of one length; null differs from every text."""
        row = np.zeros(1, np.uint64)
        count = 0
        for column in columns:
            found = hashes(column)
            row, count = _mixed(row * _ODD[0] + found), len(found)
        if count:
            self.rows += count
            with np.errstate(over="ignore"):
                self._sums[0] += row.sum(dtype=np.uint64)
                self._sums[1] += _mixed(row ^ _ODD[1]).sum(dtype=np.uint64)

    def hexdigest(self) -> str:
        """Return 16 hex digits."""
        text = f"{self.rows} {self._sums[0]} {self._sums[1]}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def hashes(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Return a hash of each text, uint64 [N], the same on every machine."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    texts: Any = column.cast(pa.large_binary())
    if not len(texts):
        return np.zeros(0, np.uint64)
    ends = np.frombuffer(texts.buffers()[1], np.int64)[texts.offset : texts.offset + len(texts) + 1]
    data = np.frombuffer(texts.buffers()[2] or b"", np.uint8)
    starts, lengths = ends[:-1], np.diff(ends)
    found = np.empty(len(texts), np.uint64)
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length)
        words = np.zeros((len(rows), -(-int(length) // 8) * 8), np.uint8)
        words[:, :length] = data[starts[rows][:, None] + np.arange(length)]
        value = np.full(len(rows), np.uint64(length) + _ODD[2], np.uint64)
        for word in words.view("<u8").T:
            value = _mixed(value * _ODD[0] + word)
        found[rows] = value
    found[np.asarray(texts.is_null().to_numpy(zero_copy_only=False))] = _ODD[1]
    return found


def _mixed(values: np.ndarray) -> np.ndarray:
    """Mix bits (the finaliser of SplitMix64, Steele et al., 2014)."""
    values = (values ^ (values >> np.uint64(30))) * _ODD[1]
    values = (values ^ (values >> np.uint64(27))) * _ODD[2]
    return values ^ (values >> np.uint64(31))
