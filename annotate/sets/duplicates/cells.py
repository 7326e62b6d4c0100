"""Vectors in cells, each around its pivot: whoever lies near a vector is in its own cell or one that borders on it."""

from __future__ import annotations

import numpy as np

from reelwright.annotate.sets.clustering.lloyd import nearest

PER_CELL = 50
"""Cells are root(N · PER_CELL) many: about so many are looked at per vector, so assigning and comparing take alike."""
FITTED = 16  # vectors per pivot that pivots are the means of
ROUNDS = 3
CHUNK = 2048  # vectors that are held against all pivots at once


class Cells:
    """Voronoi cells of pivots taken from the vectors themselves.

    Attributes:
        pivots: float32 [K, D].
        own: the cell of each vector, int32 [N].
    """

    def __init__(self, vectors: np.ndarray) -> None:
        """Choose pivots and assign every vector. vectors: float32 [N, D]; may be a mapped file."""
        count = max(1, round((len(vectors) * PER_CELL) ** 0.5))
        sample = np.asarray(vectors[:: max(1, len(vectors) // (FITTED * count))])
        self._use(np.ascontiguousarray(sample[:: max(1, len(sample) // count)][:count]))
        for _ in range(ROUNDS):
            self._use(self._means(sample))
        self.own = nearest(vectors, self.pivots, CHUNK)[0].astype(np.int32)
        self._order = np.argsort(self.own, kind="stable")  # of a cell's vectors the first come first
        self._starts = np.searchsorted(self.own[self._order], np.arange(len(self.pivots) + 1))

    def members(self, cell: int) -> np.ndarray:
        """Return the indices of a cell's vectors, ascending."""
        return self._order[self._starts[cell] : self._starts[cell + 1]]

    def within(self, vectors: np.ndarray, own: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
        """Find the cells that lie within `reach` of vectors, their own among them: (cells, rows), by cell.

        A cell is as far as the plane between its pivot and that of the vector's own cell.

        Args:
            vectors: float32 [M, D].
            own: their cells.
            reach: a distance.
        """
        cells, rows = [], []
        for start in range(0, len(vectors), CHUNK):
            part, at = vectors[start : start + CHUNK], own[start : start + CHUNK]
            score = part @ self.pivots.T - self._half
            behind = score[np.arange(len(part)), at][:, None] - score
            apart = self._half[at][:, None] + self._half - self.pivots[at] @ self.pivots.T  # squared, halved
            near = behind <= reach * np.sqrt(2 * np.maximum(apart, 0))
            near[np.arange(len(part)), at] = True
            row, cell = np.nonzero(near)
            rows.append(row + start)
            cells.append(cell)
        found, where = np.concatenate(cells), np.concatenate(rows)
        order = np.argsort(found, kind="stable")
        return found[order], where[order]

    def _use(self, pivots: np.ndarray) -> None:
        self.pivots, self._half = pivots, np.einsum("kd,kd->k", pivots, pivots) / 2

    def _means(self, sample: np.ndarray) -> np.ndarray:
        """Return the mean of each cell's vectors of a sample; a cell without any keeps its pivot."""
        own = nearest(sample, self.pivots, CHUNK)[0]
        order = np.argsort(own, kind="stable")
        filled, starts = np.unique(own[order], return_index=True)
        sums = np.add.reduceat(sample[order], starts, axis=0)
        pivots = self.pivots.copy()
        pivots[filled] = sums / np.diff(np.append(starts, len(sample)))[:, None]
        return pivots
