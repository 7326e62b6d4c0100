"""Vectors in cells, each around its pivot: whoever lies near a vector is in its own cell or one that borders on it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from reelwright.curation.vectors.nearest import Vectors, nearest

PER_CELL = 50
"""Cells are root(N · PER_CELL) many: about so many are looked at per vector, so assigning and comparing take alike."""
LET_GO_ROWS = 65_536  # of a mapped file, after which its pages are let go
FITTED = 16  # vectors per pivot that pivots are the means of
ROUNDS = 3
CHUNK = 2048  # vectors that are held against all pivots at once


class Reordered:
    """Rows of vectors in another order, read when asked for.

    Args:
        vectors: [N, D], of any kind of float.
        order: of rows, int [M].
        let_go: takes what was read of a mapped file out of memory.
    """

    def __init__(self, vectors: Vectors, order: np.ndarray, let_go: Callable[[], None] = lambda: None) -> None:
        self._vectors, self._order, self._let_go = vectors, order, let_go
        self._read = 0

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        found = np.asarray(self._vectors[self._order[rows]], np.float32)
        self._read += len(found)
        if self._read >= LET_GO_ROWS:
            self._let_go()
            self._read = 0
        return found


class Cells:
    """Voronoi cells of pivots taken from the vectors themselves.

    Attributes:
        pivots: float32 [K, D].
        own: the cell of each vector, int32 [N].
        order: the vectors by cell, int64 [N]; of a cell's vectors the first come first.
        starts: where each cell begins in this order, and the end, int64 [K + 1].
    """

    def __init__(self, vectors: Vectors, count: int | None = None, least: int = 0, apart: float = 0) -> None:
        """Choose pivots and assign every vector.

        Args:
            vectors: float32 [N, D]; may be a mapped file.
            count: of cells; default: by PER_CELL.
            apart: squared distance that pivots have at least: of pivots that lie closer, one stays.
            least: vectors that a cell must have; one with fewer goes, and its vectors go to the nearest of the others.
        """
        count = count or max(1, round((len(vectors) * PER_CELL) ** 0.5))
        sample = np.asarray(vectors[:: max(1, len(vectors) // (FITTED * count))])
        self._use(np.ascontiguousarray(sample[:: max(1, len(sample) // count)][:count]))
        for _ in range(ROUNDS):
            self._use(self._means(sample))
        if apart:
            self._use(self.pivots[_apart(self.pivots, apart)])
        self.own = nearest(vectors, self.pivots, CHUNK)[0].astype(np.int32)
        if least:
            self._without_small(vectors, least)
        self.order = np.argsort(self.own, kind="stable")
        self.starts = np.searchsorted(self.own[self.order], np.arange(len(self.pivots) + 1))

    def members(self, cell: int) -> np.ndarray:
        """Return the indices of a cell's vectors, ascending."""
        return self.order[self.starts[cell] : self.starts[cell + 1]]

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

    def _without_small(self, vectors: Vectors, least: int) -> None:
        sizes = np.bincount(self.own, minlength=len(self.pivots))
        stays = sizes >= min(least, sizes.max())
        self._use(self.pivots[stays])
        moved = np.flatnonzero(~stays[self.own])
        self.own = (np.cumsum(stays) - 1).astype(np.int32)[self.own]
        self.own[moved] = nearest(Reordered(vectors, moved), self.pivots, CHUNK)[0]

    def _means(self, sample: np.ndarray) -> np.ndarray:
        """Return the mean of each cell's vectors of a sample; a cell without any keeps its pivot."""
        own = nearest(sample, self.pivots, CHUNK)[0]
        order = np.argsort(own, kind="stable")
        filled, starts = np.unique(own[order], return_index=True)
        sums = np.add.reduceat(sample[order], starts, axis=0)
        pivots = self.pivots.copy()
        pivots[filled] = sums / np.diff(np.append(starts, len(sample)))[:, None]
        return pivots


def _apart(points: np.ndarray, squared: float) -> np.ndarray:
    """Return points that lie at least so far from each other, and no further from any that is left out; ascending."""
    squares = np.einsum("nd,nd->n", points, points)
    left, kept = np.ones(len(points), bool), []
    while left.any():
        one = int(np.argmax(left))
        kept.append(one)
        left &= squares + squares[one] - 2 * points @ points[one] >= squared
        left[one] = False
    return np.array(kept)
