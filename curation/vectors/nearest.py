"""The nearest of some points, for many vectors."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Vectors(Protocol):
    """Vectors [N, D] that are read some at a time: an array, a mapped file, or rows in another order."""

    def __len__(self) -> int:
        """Return N."""

    def __getitem__(self, rows: slice | np.ndarray, /) -> np.ndarray:
        """Return rows, float32 [M, D]."""


def nearest(vectors: Vectors, centroids: np.ndarray, chunk: int = 16_384) -> tuple[np.ndarray, np.ndarray]:
    """Return the index of each vector's nearest centroid, int [N], and its squared distance, float32 [N].

    chunk: vectors that are held against all centroids at once.
    """
    squares = (centroids**2).sum(axis=1)
    labels = [np.zeros(0, np.intp)]
    distances = [np.zeros(0, np.float32)]
    for start in range(0, len(vectors), chunk):
        part = vectors[start : start + chunk]
        off = squares - 2 * part @ centroids.T
        labels.append(off.argmin(axis=1))
        distances.append(np.maximum(0, off.min(axis=1) + (part**2).sum(axis=1)))
    return np.concatenate(labels), np.concatenate(distances)
