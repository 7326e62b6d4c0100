"""k-means over unit vectors whose clusters keep their ids as the set grows."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np

from reelwright.annotate.sets.clustering.lloyd import centroids_of
from reelwright.curation.vectors.nearest import nearest

MINI_BATCH_FROM = 20_000  # vectors; below, every round sees all of them
FIT_ON = 100_000  # vectors of a larger set that are fitted: 256 clusters then have some 400 each
BATCH = 4096
STARTS = 4
NEW = 1e-4  # mean squared distance that counts as none


@dataclass(frozen=True)
class Fit:
    """A k-means fit.

    Attributes:
        centroids: float32 [K, D].
        ids: of each centroid.
        vectors: number of vectors in the set that it was fitted to.
        spread: their mean squared distance to their centroid.
        next_id: the first id that no cluster ever had.
    """

    centroids: np.ndarray
    ids: np.ndarray
    vectors: int
    spread: float
    next_id: int

    def labels(self, vectors: np.ndarray) -> np.ndarray:
        """Return the index of the nearest centroid, int [N]."""
        return nearest(vectors, self.centroids)[0]

    def is_outgrown(self, vectors: np.ndarray, count: int, growth: float) -> bool:
        """Return whether a set has outgrown the fit: more vectors, or further off, by a share of `growth`.

        Args:
            vectors: of the set, or of a sample of it, float32 [N, D], N at least 1.
            count: number of vectors in the set.
            growth: the share.
        """
        if count > (1 + growth) * self.vectors or vectors.shape[1] != self.centroids.shape[1]:
            return True
        return float(nearest(vectors, self.centroids)[1].mean(dtype=np.float64)) > (1 + growth) * self.spread + NEW

    def to_json(self) -> dict[str, Any]:
        """Return the fit as JSON."""
        values = self.centroids.astype("<f4").tobytes()
        return {"centroids": base64.b64encode(values).decode(), "dim": self.centroids.shape[1],
                "ids": self.ids.tolist(), "vectors": self.vectors, "spread": self.spread,
                "next_id": self.next_id}  # fmt: skip

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> Fit:
        """Read a fit that `to_json` made."""
        values = np.frombuffer(base64.b64decode(state["centroids"]), "<f4").reshape(-1, state["dim"])
        return cls(values, np.array(state["ids"]), state["vectors"], state["spread"], state["next_id"])


def rule_of_thumb(count: int, most: int) -> int:
    """Return the number of clusters for n vectors: root(n / 2) (Mardia et al., 1979), at most `most`.

    It gives 7 for 100 clips and 71 for 10,000: about as many as a person or a balance can distinguish.
    """
    return max(1, min(most, round((count / 2) ** 0.5)))


def fit(vectors: np.ndarray, k: int, seed: int, before: Fit | None = None, *, of: int = 0) -> Fit:
    """Fit k-means. There are fewer clusters than k where fewer vectors are distinct.

    Args:
        vectors: float32 [N, D], N at least 1.
        k: number of clusters.
        seed: of the fit.
        before: the last fit, of vectors of the same model; a cluster whose centroid stays about where it was keeps its
            id.
        of: number of vectors in the set that these are a sample of; default: these are all.
    """
    centroids = _centroids(vectors, k, seed)
    labels, distances = nearest(vectors, centroids)
    used, sizes = np.unique(labels, return_counts=True)
    spread = float(distances.mean())
    ids, next_id = _ids(centroids[used], sizes, spread, before)
    return Fit(centroids[used], ids, of or len(vectors), spread, next_id)


def _centroids(vectors: np.ndarray, k: int, seed: int) -> np.ndarray:
    k = min(k, _distinct(vectors, k))
    if len(vectors) < MINI_BATCH_FROM:
        return centroids_of(vectors, k, starts=STARTS, seed=seed)
    from sklearn.cluster import MiniBatchKMeans

    model = MiniBatchKMeans(k, batch_size=BATCH, n_init=STARTS, random_state=seed)
    return np.asarray(model.fit(vectors).cluster_centers_, np.float32)


def _distinct(vectors: np.ndarray, enough: int) -> int:
    """Return how many vectors differ, counted only as far as matters."""
    found: set[bytes] = set()
    for vector in vectors:
        found.add(np.round(vector, 4).tobytes())
        if len(found) >= enough:
            break
    return len(found)


def _ids(centroids: np.ndarray, sizes: np.ndarray, spread: float, before: Fit | None) -> tuple[np.ndarray, int]:
    """Return the ids of the new clusters, and the next free one.

    A new cluster takes the id of an old one whose centroid lies nearer than clips do to theirs, matched so that
    centroids move least in all (Hungarian assignment). The others get new ids, by size.
    """
    ids = np.full(len(sizes), -1)
    if before is not None:
        from scipy.optimize import linear_sum_assignment

        moved = ((before.centroids[:, None] - centroids[None]) ** 2).sum(axis=2)
        far = max(before.spread, spread) + NEW
        for old, new in zip(*linear_sum_assignment(np.minimum(moved, far)), strict=True):
            ids[new] = before.ids[old] if moved[old, new] < far else -1
    fresh = [i for i in np.argsort(-sizes, kind="stable") if ids[i] < 0]
    first = before.next_id if before else 0
    ids[fresh] = np.arange(first, first + len(fresh))
    return ids, first + len(fresh)
