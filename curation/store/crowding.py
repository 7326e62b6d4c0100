"""How crowded each clip's neighbourhood is among the captions of a set, from vectors alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SAME = 0.01  # cosine distance below which captions say the same: sentences that differ by an article
CHUNK = 1024  # clips at once, against all others


@dataclass(frozen=True)
class Neighbourhood:
    """Which neighbours count.

    Attributes:
        k: nearest other clips.
        exact_up_to: clips of a set up to which neighbours are among all of it.
        reference: clips of a larger set that neighbours are among, those with the smallest hash of seed and id.
        seed: of that hash.
    """

    k: int = 10
    exact_up_to: int = 50_000
    reference: int = 20_000
    seed: int = 0

    def density(self, ids: Sequence[str], vectors: np.ndarray) -> np.ndarray:
        """Return how crowded each clip is in the set, float32 [N] with mean 1.

        Args:
            ids: of the clips, in ascending order, so that the same set has the same densities.
            vectors: unit vectors, float32 [N, D].
        """
        exact = len(ids) <= self.exact_up_to
        reference = np.arange(len(ids)) if exact else sample(ids, self.reference, self.seed)
        return densities(vectors, reference, self.k)


def densities(vectors: np.ndarray, reference: np.ndarray, k: int) -> np.ndarray:
    """Return densities, float32 [N] with mean 1: max(1, same / k) / max(mean distance, 0.01).

    Args:
        vectors: unit vectors, float32 [N, D].
        reference: int [R], rows that neighbours are among.
        k: neighbours.
    """
    own = np.full(len(vectors), -1)
    own[reference] = np.arange(len(reference))
    others = vectors[reference].T.copy()
    share = len(reference) / max(1, len(vectors))
    chunks = [slice(start, start + CHUNK) for start in range(0, len(vectors), CHUNK)]
    parts = [_chunk(vectors[one], own[one], others, k, share) for one in chunks]
    found = np.concatenate([np.zeros(0, np.float32), *parts])
    return found / found.mean() if len(found) else found


def unit(vectors: np.ndarray) -> np.ndarray:
    """Scale rows of [N, D] to length 1."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def sample(ids: Sequence[str], count: int, seed: int) -> np.ndarray:
    """Return the rows of the `count` ids with the smallest hash, int [count], ascending."""
    hashes = [hashlib.blake2b(f"{seed}:{one}".encode(), digest_size=8).digest() for one in ids]
    return np.sort(np.array(sorted(range(len(ids)), key=hashes.__getitem__)[:count]))


def _chunk(vectors: np.ndarray, own: np.ndarray, others: np.ndarray, k: int, share: float) -> np.ndarray:
    """share: of all clips that `others` are, by which the count of equal captions is scaled up."""
    alike = vectors @ others  # [C, R]
    mine = np.flatnonzero(own >= 0)
    alike[mine, own[mine]] = -np.inf  # a clip is no neighbour of its own
    k = min(k, others.shape[1] - 1)
    if k < 1:
        return np.ones(len(vectors), np.float32)
    nearest = np.partition(alike, -k, axis=1)[:, -k:]
    distance = np.maximum(SAME, 1 - nearest.mean(axis=1))
    same = np.count_nonzero(alike > 1 - SAME, axis=1) / share
    return np.asarray(np.maximum(1, same / k) / distance, np.float32)
