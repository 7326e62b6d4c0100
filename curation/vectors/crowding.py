"""How crowded each clip's neighbourhood is among the captions of a set, from vectors alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from reelwright.curation.vectors.cells import Cells, Reordered
from reelwright.curation.vectors.id_hashes import hashes_of
from reelwright.curation.vectors.neighbours import SAME, Crowding, Laid
from reelwright.curation.vectors.scratch import Scratch

CELL = 500  # vectors per cell at least, on the mean; beyond a million of them a quarter of the number of cells
AMONG = 2_000_000  # vectors of a larger set that neighbours are looked for among: time grows with the set, no faster
LARGEST = 8  # of that mean: of a cell with more vectors, so many stand for all
CHUNK = 65_536  # vectors that are laid out at once


@dataclass(frozen=True)
class Neighbourhood:
    """Which neighbours count.

    Up to `exact_up_to` clips neighbours are looked for among all of them. Beyond, vectors lie in cells by k-means, as
    halves (float16), and a vector's neighbours are looked for in the cells nearest to it. Clips within 0.01 of one
    another share a cell or a few, however many they are. Of a cell with more than 8 times the mean, the clips with the
    smallest hashes stand for all: so time does not grow with the square of the copies of a caption. Beyond 2 M clips,
    those of each cell that have the smallest hashes, 2 M in all, stand for all.

    The densities of a set are the same to the bit in whatever order its clips come, with one version of numpy and one
    kind of processor: all goes by a hash of seed and id, and sums are made by one thread.

    Attributes:
        k: nearest other clips.
        exact_up_to: clips of a set up to which neighbours are among all of it.
        probes: cells that neighbours are looked for in.
        seed: of the hash.
    """

    k: int = 10
    exact_up_to: int = 50_000
    probes: int = 32
    seed: int = 0

    def density(self, parts: Iterable[tuple[Sequence[str], np.ndarray]], count: int) -> np.ndarray:
        """Return how crowded each clip is in the set, float32 [N] with mean 1; NaN for a vector that is not finite.

        Memory: some 50 bytes per clip; the vectors lie in two files for temporary files, of 2 bytes per number each.

        Args:
            parts: (ids of clips, unit vectors float32 [M, D]), in any order.
            count: of all clips, N.
        """
        from threadpoolctl import threadpool_limits

        found = np.full(count, np.nan, np.float32)
        with threadpool_limits(1, "blas"), Scratch() as scratch:
            laid, rows = self._lay_out(parts, count, scratch)
            if laid:
                crowding = Crowding(laid, min(self.k, len(rows) - 1), self.probes).all()
                found[rows] = crowding / crowding.mean(dtype=np.float64)
        return found

    def _lay_out(
        self, parts: Iterable[tuple[Sequence[str], np.ndarray]], count: int, scratch: Scratch
    ) -> tuple[Laid | None, np.ndarray]:
        """Return (the finite vectors by cell or None for none, the clip that each is of as they came, int [N])."""
        with Scratch() as first:
            is_exact = count <= self.exact_up_to
            came, hashes, clips = _gathered(parts, count, np.float32 if is_exact else np.float16, self.seed, first)
            if not len(came):
                return None, clips
            order = np.argsort(hashes, kind="stable")
            count = 1 if is_exact else _cells(len(came))
            cells = Cells(Reordered(came, order, first.let_go), count, least=self.k + 1, apart=2 * SAME)
            order = order[cells.order]
            vectors = scratch.array(came.shape, came.dtype)
            for start in range(0, len(came), CHUNK):
                vectors[start : start + CHUNK] = came[order[start : start + CHUNK]]
                first.let_go()
                scratch.let_go()
        among = 1.0 if is_exact else min(1.0, AMONG / len(came))
        sizes = np.ceil(among * np.diff(cells.starts)).astype(np.int64)
        looked_at = np.clip(sizes, self.k + 1, max(self.k + 1, LARGEST * int(among * len(came)) // count))
        return Laid(vectors, cells.pivots, cells.starts, looked_at, scratch.let_go), clips[order]


def unit(vectors: np.ndarray) -> np.ndarray:
    """Scale rows of [N, D] to length 1."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _cells(count: int) -> int:
    count = min(count, AMONG)
    return max(1, min(round(2 * count**0.5), count // CELL))


def _gathered(
    parts: Iterable[tuple[Sequence[str], np.ndarray]], count: int, kind: type, seed: int, scratch: Scratch
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (finite vectors, the hashes of their clips' ids, which clips those are) as they come."""
    found: np.ndarray | None = None
    hashes, clips = np.zeros(count, np.uint64), np.zeros(count, np.int64)
    clip = row = 0
    for ids, vectors in parts:
        if not len(ids):
            continue
        if found is None:
            found = scratch.array((count, vectors.shape[1]), kind)
        finite = np.flatnonzero(np.isfinite(vectors).all(axis=1))
        some = slice(row, row + len(finite))
        found[some], hashes[some], clips[some] = vectors[finite], hashes_of(ids, seed)[finite], clip + finite
        clip, row = clip + len(ids), row + len(finite)
        scratch.let_go()
    return (np.zeros((0, 1), kind) if found is None else found[:row]), hashes[:row], clips[:row]
