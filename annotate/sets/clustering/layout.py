"""Points of a plane for vectors, so that near vectors lie near: t-SNE of a sample, and the others among it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

DIMENSIONS = 50  # principal components that t-SNE sees, as van der Maaten and Hinton (2008) do
START = 1e-4  # standard deviation of the points that t-SNE begins with
LEAST = 8  # vectors, below which the first two principal components are the layout
EQUAL = 4  # decimals
NEIGHBOURS = 5
CHUNK = 4096  # vectors at once, against all of the sample


@dataclass(frozen=True)
class Layout:
    """A sample that was laid out.

    Attributes:
        ids: of its clips, R.
        marks: hash of each clip's vector.
        points: float32 [R, 2].
        clips: number of clips that it was drawn from.
    """

    ids: list[str]
    marks: list[str]
    points: np.ndarray
    clips: int

    def still(self, ids: Sequence[str], vectors: np.ndarray) -> Landmarks:
        """Return its clips that are among these with the same vector. vectors: float32 [N, D], of the clips `ids`."""
        place_in = {one: row for row, one in enumerate(ids)}
        kept = [(place_in[one], i) for i, one in enumerate(self.ids) if one in place_in]
        kept = [(row, i) for row, i in kept if mark_of(vectors[row]) == self.marks[i]]
        rows, at = np.array(kept, int).reshape(-1, 2).T
        return Landmarks([self.ids[i] for i in at], vectors[rows], self.points[at])

    def to_json(self) -> dict[str, Any]:
        """Return the layout as JSON."""
        points = base64.b64encode(self.points.astype("<f4").tobytes()).decode()
        return {"ids": self.ids, "marks": self.marks, "points": points, "clips": self.clips}

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> Layout:
        """Read a layout that `to_json` made."""
        points = np.frombuffer(base64.b64decode(state["points"]), "<f4").reshape(-1, 2)
        return cls(state["ids"], state["marks"], points, state["clips"])


@dataclass(frozen=True)
class Landmarks:
    """Clips whose points are known.

    Attributes:
        ids: of the clips, M.
        vectors: their unit vectors, float32 [M, D].
        points: float32 [M, 2].
    """

    ids: list[str]
    vectors: np.ndarray
    points: np.ndarray

    def points_of(self, ids: Sequence[str], vectors: np.ndarray) -> np.ndarray:
        """Return the point of each clip, float32 [N, 2]: its own, or one between the nearest landmarks.

        vectors: unit vectors, float32 [N, D].
        """
        known = {one: row for row, one in enumerate(self.ids)}
        own = np.array([known.get(one, -1) for one in ids], int)
        points = np.empty((len(ids), 2), np.float32)
        points[own >= 0] = self.points[own[own >= 0]]
        points[own < 0] = place(vectors[own < 0], self.vectors, self.points)
        return points


def mark_of(vector: np.ndarray) -> str:
    """Return a hash of a vector."""
    return hashlib.blake2b(np.ascontiguousarray(vector, "<f4").tobytes(), digest_size=4).hexdigest()


def lay_out(vectors: np.ndarray, perplexity: float, seed: int, start: np.ndarray | None = None) -> np.ndarray:
    """Return points of a plane, float32 [N, 2], by t-SNE; by principal components for fewer than 8 distinct vectors.

    Equal vectors have one point: as many points they would push all others away.

    Args:
        vectors: unit vectors, float32 [N, D].
        perplexity: number of neighbours that each point is to be near to; bounded by a third of N.
        seed: of ties.
        start: points [N, 2] of an earlier layout, which the new one begins with and is turned like.
    """
    _, first, of = np.unique(np.round(vectors, EQUAL), axis=0, return_index=True, return_inverse=True)
    points = _of_distinct(vectors[first], perplexity, seed, None if start is None else start[first])
    return points[of.reshape(-1)]


def _of_distinct(vectors: np.ndarray, perplexity: float, seed: int, start: np.ndarray | None) -> np.ndarray:
    flat, _ = project(vectors, 2)
    if len(vectors) < LEAST or not np.ptp(flat):
        return np.asarray(flat if start is None else start, np.float32)
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    begun = flat if start is None or not np.ptp(start) else start
    reduced, _ = project(vectors, min(DIMENSIONS, *vectors.shape))
    model = TSNE(
        perplexity=min(perplexity, (len(vectors) - 1) / 3), init=np.asarray(begun / begun.std() * START, np.float32),
        random_state=seed,
    )  # fmt: skip
    with threadpool_limits(1):  # the order of sums, and so the layout, is the same with any number of cores
        points = np.asarray(model.fit_transform(np.asarray(reduced, np.float32)), np.float32)
    return points if start is None else turned(points, start)


def turned(points: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Return points [N, 2] turned, mirrored and moved so that they lie as near as may be to others [N, 2].

    t-SNE leaves all three open; this is the orthogonal Procrustes problem (Schönemann, 1966).
    """
    middle = like.mean(0)
    left, _, right = np.linalg.svd((points - points.mean(0)).T @ (like - middle))
    return np.asarray((points - points.mean(0)) @ (left @ right) + middle, np.float32)


def place(vectors: np.ndarray, reference: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return points among a layout, float32 [N, 2]: means of the nearest vectors' points, weighted by 1 / distance.

    Poličar et al. (2019) begin so when they embed new points in a t-SNE.

    Args:
        vectors: unit vectors to place, float32 [N, D].
        reference: unit vectors that were laid out, float32 [R, D], R at least 1.
        points: their points, float32 [R, 2].
    """
    parts = [np.zeros((0, 2), np.float32)]
    k = min(NEIGHBOURS, len(reference))
    for first in range(0, len(vectors), CHUNK):
        distance = 1 - vectors[first : first + CHUNK] @ reference.T
        nearest = np.argpartition(distance, k - 1, axis=1)[:, :k]
        weight = 1 / np.maximum(np.take_along_axis(distance, nearest, axis=1), 1e-6)
        parts.append((points[nearest] * (weight / weight.sum(1, keepdims=True))[:, :, None]).sum(1, dtype=np.float32))
    return np.concatenate(parts)


def project(vectors: np.ndarray, count: int = 2) -> tuple[np.ndarray, float]:
    """Return (first principal components [N, count], the part of the variance they hold) of vectors [N, D].

    The sign of a component, which PCA leaves open, is that its largest coefficient is positive.
    """
    centred = vectors - vectors.mean(0)
    values, axes = np.linalg.eigh(centred.T @ centred)
    total = float(np.maximum(values, 0).sum())
    if total <= 1e-12 * len(vectors) or vectors.shape[1] < count:
        return np.zeros((len(vectors), count)), 0.0
    top = axes[:, ::-1][:, :count]
    top = top * np.where(top[np.abs(top).argmax(0), np.arange(count)] < 0, -1.0, 1.0)
    return centred @ top, float(np.maximum(values[-count:], 0).sum() / total)
