"""Lloyd's k-means in numpy: up to some ten thousand vectors it is done before scikit-learn is imported."""

from __future__ import annotations

import numpy as np

from reelwright.curation.vectors.nearest import nearest

MOST_ROUNDS = 300
CALM = 1e-4  # of the mean variance per dimension: squared way of all centroids in a round below which it ends


def centroids_of(vectors: np.ndarray, k: int, *, starts: int, seed: int) -> np.ndarray:
    """Return the centroids of the best of several fits, by mean squared distance.

    Args:
        vectors: float32 [N, D], of which at least k differ.
        k: number of centroids.
        starts: fits, each from k-means++ (Arthur & Vassilvitskii, 2007).
        seed: of the starts.

    Returns:
        float32 [k, D]; each is the nearest one of some vector.
    """
    rng = np.random.default_rng(seed)
    middle = vectors.mean(axis=0)
    off_middle = vectors - middle  # small numbers, so that float32 tells distances apart
    exact = off_middle.astype(np.float64)
    fits = [_descended(off_middle, exact[_plus_plus(exact, k, rng)].astype(np.float32)) for _ in range(starts)]
    return np.asarray(min(fits, key=lambda f: f[1])[0] + middle, np.float32)


def _plus_plus(vectors: np.ndarray, k: int, rng: np.random.Generator) -> list[int]:
    """Draw rows of k starting points, each by its squared distance to those before.

    Of a few draws, the one that leaves least distance is kept. vectors: float64 [N, D].
    """
    squares = (vectors**2).sum(axis=1)
    tries = 2 + int(np.log(k))
    chosen = [int(rng.integers(len(vectors)))]
    left = _squared(vectors, squares, chosen)[0]
    while len(chosen) < k:
        sums = np.cumsum(left)
        drawn = np.searchsorted(sums, rng.random(tries) * sums[-1], side="right").clip(max=len(vectors) - 1)
        after = np.minimum(left, _squared(vectors, squares, drawn))
        best = int(after.sum(axis=1).argmin())
        chosen.append(int(drawn[best]))
        left = after[best]
    return chosen


def _squared(vectors: np.ndarray, squares: np.ndarray, rows: list[int] | np.ndarray) -> np.ndarray:
    """Squared distances of all vectors to some of them, [rows, N]."""
    off = np.maximum(0, squares[rows][:, None] + squares - 2 * vectors[rows] @ vectors.T)
    off[np.arange(len(rows)), rows] = 0
    return off


def _descended(vectors: np.ndarray, centroids: np.ndarray) -> tuple[np.ndarray, float]:
    """Centroids once they stand still, and the mean squared distance to them."""
    calm = CALM * float(vectors.var(axis=0).mean())
    labels, distances = nearest(vectors, centroids)
    for _ in range(MOST_ROUNDS):
        labels = _without_empty(labels, distances, len(centroids))
        before, centroids = centroids, _means(vectors, labels, len(centroids))
        old, (labels, distances) = labels, nearest(vectors, centroids)
        is_still = float(((centroids - before) ** 2).sum()) <= calm or np.array_equal(labels, old)
        if is_still and len(np.unique(labels)) == len(centroids):
            break
    return centroids, float(distances.mean(dtype=np.float64))


def _without_empty(labels: np.ndarray, distances: np.ndarray, k: int) -> np.ndarray:
    """Give each cluster without a vector the one that lies furthest from its own centroid."""
    sizes = np.bincount(labels, minlength=k)
    if sizes.all():
        return labels
    labels = labels.copy()
    furthest = iter(np.argsort(-distances, kind="stable"))
    for empty in np.flatnonzero(sizes == 0):
        row = next(r for r in furthest if sizes[labels[r]] > 1)
        sizes[labels[row]] -= 1
        labels[row] = empty
    return labels


def _means(vectors: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    order = np.argsort(labels, kind="stable")
    firsts = np.searchsorted(labels[order], np.arange(k))
    sums = np.add.reduceat(vectors[order], firsts, axis=0, dtype=np.float64)
    return np.asarray(sums / np.bincount(labels, minlength=k)[:, None], np.float32)
