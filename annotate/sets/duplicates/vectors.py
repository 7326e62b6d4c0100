"""Clips whose embeddings point the same way, without multiplying every vector by every other."""

from __future__ import annotations

import numpy as np

from reelwright.annotate.sets.duplicates.scratch import Scratch

KEPT = 64  # principal directions that most pairs are judged by
SAMPLE = 8192  # vectors that the directions are taken from
CHUNK = 8192  # vectors compared with a block at once
ROUNDING = 1e-5  # of a float32 scalar product
EQUAL = 1e-6  # largest amount by which the cosine of a vector with itself is below 1


class LikeVectors:
    """Pairs with a cosine of at least min_cosine.

    With a vector split into its part in a few directions and the rest, a scalar product is at most that of the parts
    plus the product of the rests' lengths (Cauchy-Schwarz): one product of KEPT + 1 numbers rules out nearly all pairs,
    and the others are computed. Which directions is a matter of speed alone. Time still grows with the square of N.

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

    def __call__(self, block: np.ndarray, free: np.ndarray) -> np.ndarray:
        """Find pairs of at least the cosine; see `Neighbours`."""
        others = np.flatnonzero(free)
        others = others[np.searchsorted(others, block[0]) :] if len(block) else others[:0]
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
