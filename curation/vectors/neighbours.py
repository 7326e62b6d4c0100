"""How crowded vectors lie, each among those of the cells nearest to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

SAME = 0.01  # cosine distance below which captions say the same: sentences that differ by an article
NEAR = 16  # cells near a cell, per probe: its vectors are looked for in the nearest to each of them among these
STRETCH = 65_536  # vectors of a cell that are held at once
QUERIES = 512  # of them against a cell at once
GROUP = 16  # vectors of a cell whose maximum is looked at first


@dataclass(frozen=True)
class Laid:
    """Vectors laid out by cell.

    Attributes:
        vectors: unit vectors, float [N, D]; within a cell in an order by chance.
        pivots: of the cells, float32 [K, D].
        starts: where each cell begins, and the end, int [K + 1]; each has more than `k` vectors if there are as many.
        looked_at: vectors of each cell that are looked at, int [K]: the first so many stand for all.
        let_go: takes what was read out of memory.
    """

    vectors: np.ndarray
    pivots: np.ndarray
    starts: np.ndarray
    looked_at: np.ndarray
    let_go: Callable[[], None]


class Crowding:
    """Crowding of vectors: max(1, same / k) / max(mean distance to the k nearest others, 0.01).

    Args:
        laid: the vectors.
        k: nearest others; fewer than there are vectors.
        probes: cells that each vector's neighbours are looked for in, the nearest to it.
    """

    def __init__(self, laid: Laid, k: int, probes: int) -> None:
        self._laid, self._k, self._probes = laid, k, probes
        self._half = np.einsum("kd,kd->k", laid.pivots, laid.pivots) / 2

    def all(self) -> np.ndarray:
        """Return the crowding of every vector, float32 [N], in the order they are laid out in."""
        found = np.ones(len(self._laid.vectors), np.float32)
        for cell in range(len(self._laid.pivots) if self._k else 0):
            begin, end = self._laid.starts[cell : cell + 2]
            for first in range(begin, end, STRETCH):
                last = min(first + STRETCH, end)
                found[first:last] = self._of(cell, first, last)
            self._laid.let_go()
        return found

    def _of(self, cell: int, first: int, last: int) -> np.ndarray:
        """Return the crowding of vectors first to last of a cell."""
        vectors = np.asarray(self._laid.vectors[first:last], np.float32)
        near = self._near(cell)
        probed = self._probed(vectors, near)
        found = _Nearest(len(vectors), self._k)
        for place, other in enumerate(near.tolist()):
            rows = np.flatnonzero(probed[:, place])
            if not len(rows):
                continue
            begin, end = self._laid.starts[other : other + 2]
            some = min(end - begin, self._laid.looked_at[other])
            members = np.zeros((-(-some // GROUP) * GROUP, vectors.shape[1]), np.float32)
            members[:some] = self._laid.vectors[begin : begin + some]
            for start in range(0, len(rows), QUERIES):
                part = rows[start : start + QUERIES]
                alike = vectors[part] @ members.T
                alike[:, some:] = -np.inf
                if other == cell:  # no vector is its own neighbour
                    own = part + first - begin
                    alike[np.flatnonzero(own < some), own[own < some]] = -np.inf
                found.add(part, alike, (end - begin) / some)
        return found.crowding()

    def _near(self, cell: int) -> np.ndarray:
        """Return the cells whose pivots are nearest to that of a cell, itself first."""
        pivots = self._laid.pivots
        off = self._half - pivots @ pivots[cell]
        off[cell] = -np.inf
        return np.argsort(off, kind="stable")[: NEAR * self._probes]

    def _probed(self, vectors: np.ndarray, near: np.ndarray) -> np.ndarray:
        """Return whether each of these cells is among the nearest to each vector, bool [M, cells]."""
        if len(near) <= self._probes:
            return np.ones((len(vectors), len(near)), bool)
        score = vectors @ self._laid.pivots[near].T - self._half[near]
        return np.asarray(score >= np.partition(score, -self._probes, axis=1)[:, -self._probes, None])


class _Nearest:
    """The nearest found so far of some vectors, by cosine, and the number within SAME."""

    def __init__(self, count: int, k: int) -> None:
        self._k = k
        self._best = np.full((count, k), -np.inf, np.float32)  # the furthest of them first
        self._same = np.zeros(count)

    def add(self, rows: np.ndarray, alike: np.ndarray, each: float) -> None:
        """Look at more vectors.

        Args:
            rows: vectors that are looked at by these, int [M].
            alike: cosines, float32 [M, S]; S is a multiple of GROUP.
            each: vectors that each of these stands for.
        """
        groups = alike.reshape(len(rows), GROUP, -1)
        peaks = groups.max(axis=1)
        top = peaks.max(axis=1)
        better = np.flatnonzero(top > self._best[rows, 0])
        if len(better):
            found = np.concatenate([self._best[rows[better]], self._highest(groups, peaks, better)], axis=1)
            self._best[rows[better]] = np.partition(found, -self._k, axis=1)[:, -self._k :]
        same = np.flatnonzero(top > 1 - SAME)
        if len(same):
            self._same[rows[same]] += each * np.count_nonzero(alike[same] > 1 - SAME, axis=1)

    def crowding(self) -> np.ndarray:
        """Return the crowding of each vector, float32 [N]."""
        distance = np.maximum(SAME, 1 - self._best.mean(axis=1))
        return np.asarray(np.maximum(1, self._same / self._k) / distance, np.float32)

    def _highest(self, groups: np.ndarray, peaks: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return cosines of some rows with their k highest among them: those of the k groups with the highest peaks."""
        if peaks.shape[1] <= self._k:
            return groups[rows].reshape(len(rows), -1)
        at = np.argpartition(peaks[rows], -self._k, axis=1)[:, -self._k :]
        found = groups[rows[:, None, None], np.arange(GROUP)[:, None], at[:, None, :]]
        return np.asarray(found).reshape(len(rows), -1)
