"""Clips whose embeddings point the same way, without multiplying every vector by every other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from reelwright.annotate.sets.duplicates.groups import LARGEST_BLOCK
from reelwright.curation.vectors.cells import Cells
from reelwright.curation.vectors.scratch import Scratch

KEPT = 64  # principal directions that most pairs are judged by
SAMPLE = 8192  # vectors that the directions are taken from
CHUNK = 8192  # vectors compared with a block at once
ROUNDING = 1e-5  # of a float32 scalar product
EQUAL = 1e-6  # largest amount by which the cosine of a vector with itself is below 1
LARGE_BLOCK = 16_384  # of vectors in cells: of a cell there are some in each block
ALL_PAIRS = 100_000  # vectors of which every pair is judged
REACH = 0.6
"""Of the distance that two alike vectors can have: how far behind a cell's border the other may lie to be found. With 1
every pair is found, as no plane between cells keeps two vectors apart that lie closer than it does; but the difference
of two vectors hardly ever points straight at a border. Measured in `benchmarks.near_duplicates`."""


class LikeVectors:
    """Pairs with a cosine of at least min_cosine.

    With a vector split into its part in a few directions and the rest, a scalar product is at most that of the parts
    plus the product of the rests' lengths (Cauchy-Schwarz): one product of KEPT + 1 numbers rules out nearly all pairs,
    and the others are computed. Which directions is a matter of speed alone.

    That is done for every pair of up to ALL_PAIRS vectors. Of more, a vector is judged with those of its own cell and
    of the cells whose border lies within REACH, in the few directions: time grows with N^1.5.

    Args:
        vectors: float32 [N, dim]; they are scaled to length 1 in place.
        min_cosine: the threshold.
        scratch: holds the short vectors.
    """

    def __init__(self, vectors: np.ndarray, min_cosine: float, scratch: Scratch | None = None) -> None:
        self.unit, self.min_cosine = vectors, min_cosine
        pieces = [slice(first, first + CHUNK) for first in range(0, len(vectors), CHUNK)]
        for one in pieces:
            lengths = np.linalg.norm(vectors[one], axis=1, keepdims=True)
            vectors[one] /= np.maximum(lengths, np.finfo(np.float32).tiny)
        sample = self.unit[:: max(1, len(vectors) // SAMPLE)]
        _, directions = np.linalg.eigh(sample.T @ sample)  # in ascending order of explained variance
        directions = directions[:, -KEPT:]
        width = directions.shape[1]
        self.short = (scratch or Scratch()).array((len(vectors), width + 1), np.float32)
        for one in pieces:
            part = self.unit[one] @ directions
            self.short[one, :width] = part
            self.short[one, width] = np.sqrt(np.maximum(0, 1 - np.einsum("nd,nd->n", part, part)))
        self.cells = Cells(self.short[:, :width]) if len(vectors) > ALL_PAIRS else None
        self.block = LARGE_BLOCK if self.cells else LARGEST_BLOCK

    def __call__(self, block: np.ndarray, free: np.ndarray) -> np.ndarray:
        """Find pairs of at least the cosine; see `Neighbours`."""
        if not len(block):
            return np.zeros((0, 2), np.int64)
        if self.cells:
            return np.concatenate([self._among(*one, free) for one in self._by_cell(self.cells, block)])
        return self._among(block, np.arange(block[0], len(free)), free)

    def _by_cell(self, cells: Cells, block: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield vectors of the block, and others that they may be like."""
        reach = REACH * (2 - 2 * self.min_cosine) ** 0.5
        found, rows = cells.within(self.short[block, :-1], cells.own[block], reach)
        each, starts = np.unique(found, return_index=True)
        for cell, some in zip(each, np.split(block[rows], starts[1:]), strict=True):
            yield some, cells.members(cell)

    def _among(self, block: np.ndarray, others: np.ndarray, free: np.ndarray) -> np.ndarray:
        """Return the pairs of a vector of the block and a free one of the others."""
        others = others[np.searchsorted(others, block[0]) :]
        others = others[free[others]]
        found = [np.zeros((0, 2), np.int64)]
        for start in range(0, len(others), CHUNK):
            chunk = others[start : start + CHUNK]
            bound = self.short[block] @ self.short[chunk].T
            a, b = np.divmod(np.flatnonzero(bound >= self.min_cosine - ROUNDING), len(chunk))
            pairs = np.stack([block[a], chunk[b]], axis=1)
            found.append(self._alike(pairs[pairs[:, 0] < pairs[:, 1]]))
        return np.concatenate(found)

    def _alike(self, pairs: np.ndarray) -> np.ndarray:
        """Return the pairs with such a cosine, computed in an order of their own: the same wherever a pair comes."""
        kept = [pairs[:0]]
        for start in range(0, len(pairs), CHUNK):
            chunk = pairs[start : start + CHUNK]
            a, b = self.unit[chunk[:, 0]], self.unit[chunk[:, 1]]
            cosine = np.sum(a * b, axis=1, dtype=np.float64)
            kept.append(chunk[cosine >= self.min_cosine - EQUAL])
        return np.concatenate(kept)
