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
        reference = sample(ids, self.references(len(ids)), self.seed)
        own = np.full(len(vectors), -1)
        own[reference] = np.arange(len(reference))
        found = Crowding(vectors[reference], self.k, len(ids)).of(vectors, own)
        return found / found.mean() if len(found) else found

    def references(self, clips: int) -> int:
        """Return the number of clips that neighbours are among, in a set of so many."""
        return clips if clips <= self.exact_up_to else min(clips, self.reference)


class Crowding:
    """Crowding around vectors, among reference ones: max(1, same / k) / max(mean distance, 0.01).

    Args:
        reference: unit vectors that neighbours are among, float32 [R, D].
        k: neighbours.
        clips: of the set that the reference is a part of: the count of equal captions is scaled up to it.
    """

    def __init__(self, reference: np.ndarray, k: int, clips: int) -> None:
        self._others = reference.T.copy()
        self._k = min(k, len(reference) - 1)
        self._share = len(reference) / max(1, clips)

    def of(self, vectors: np.ndarray, own: np.ndarray) -> np.ndarray:
        """Return the crowding of each clip, float32 [N]; a density is that over its mean in the set.

        Args:
            vectors: unit vectors, float32 [N, D].
            own: int [N], row of the reference that the clip itself is, -1 for none: no clip is its own neighbour.
        """
        chunks = [slice(start, start + CHUNK) for start in range(0, len(vectors), CHUNK)]
        return np.concatenate([np.zeros(0, np.float32), *(self._chunk(vectors[one], own[one]) for one in chunks)])

    def _chunk(self, vectors: np.ndarray, own: np.ndarray) -> np.ndarray:
        if self._k < 1:
            return np.ones(len(vectors), np.float32)
        alike = vectors @ self._others  # [C, R]
        mine = np.flatnonzero(own >= 0)
        alike[mine, own[mine]] = -np.inf
        nearest = np.partition(alike, -self._k, axis=1)[:, -self._k :]
        distance = np.maximum(SAME, 1 - nearest.mean(axis=1))
        same = np.count_nonzero(alike > 1 - SAME, axis=1) / self._share
        return np.asarray(np.maximum(1, same / self._k) / distance, np.float32)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Scale rows of [N, D] to length 1."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def sample(ids: Sequence[str], count: int, seed: int) -> np.ndarray:
    """Return the rows of the `count` ids with the smallest hash, int [count], ascending."""
    return np.sort(np.argsort(hashes_of(ids, seed), kind="stable")[:count])


def hashes_of(ids: Sequence[str], seed: int) -> np.ndarray:
    """Return a hash of seed and id for each, uint64 [N]."""
    digests = [hashlib.blake2b(f"{seed}:{one}".encode(), digest_size=8).digest() for one in ids]
    return np.frombuffer(b"".join(digests), ">u8").astype(np.uint64)
