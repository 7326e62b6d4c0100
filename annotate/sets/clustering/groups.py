"""Clusters as their members show them: the most typical of each, and which clusters have kept their place."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from reelwright.annotate.sets.clustering.kmeans import NEW
from reelwright.annotate.sets.clustering.vectors import Part

CLUSTER = "cluster_id"


@dataclass(frozen=True)
class Groups:
    """Clusters that have members.

    Attributes:
        ids: of the clusters, ascending.
        sizes: members of each.
        texts: of each cluster's most typical members, nearest to its middle first; of two as near, by clip_id.
        marked: members of each that are marked.
        centers: float32 [K, D], their means.
        spread: mean squared distance of members to their center.
    """

    ids: list[int]
    sizes: list[int]
    texts: list[list[str]]
    marked: list[int]
    centers: np.ndarray
    spread: float


Texts = Callable[[Part], tuple[Sequence[str | None], np.ndarray]]
"""A text for each clip of a part that has a vector, and whether it is marked, bool [M]."""


def groups_of(parts: Callable[[], Iterator[Part]], texts: Texts, most: int) -> Groups:
    """Group the clips of a set by CLUSTER. Memory: the texts of a few times `most` members of each cluster.

    Args:
        parts: reads the set, twice.
        texts: of a part.
        most: typical members of a cluster whose texts are kept.
    """
    ids, sizes, centers = _middles(parts())
    typical = _Typical(len(ids), most)
    marked, total = np.zeros(len(ids), np.int64), 0.0
    for part in parts():
        if not len(part.rows):
            continue
        cluster = np.searchsorted(ids, part.column(CLUSTER).to_numpy())
        off = ((part.vectors - centers[cluster]) ** 2).sum(axis=1)
        total += float(off.sum(dtype=np.float64))
        said, marks = texts(part)
        marked += np.bincount(cluster[marks], minlength=len(ids))
        typical.add(cluster, off, part.ids.to_pylist(), said)
    spread = total / max(1, int(sizes.sum()))
    return Groups(ids.tolist(), sizes.tolist(), typical.texts(), marked.tolist(), centers, spread)


def _middles(parts: Iterable[Part]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each cluster's id and size, int [K], and the mean of its vectors, float32 [K, D]."""
    sums: dict[int, np.ndarray] = {}
    counts: dict[int, int] = {}
    width = 0
    for part in parts:
        width = max(width, part.vectors.shape[1])
        if not len(part.rows):
            continue
        cluster = part.column(CLUSTER).to_numpy()
        order = np.argsort(cluster, kind="stable")
        found, first, count = np.unique(cluster[order], return_index=True, return_counts=True)
        added = np.add.reduceat(part.vectors[order], first, axis=0, dtype=np.float64)
        for one, vector, number in zip(found.tolist(), added, count.tolist(), strict=True):
            sums[one] = sums.get(one, 0.0) + vector
            counts[one] = counts.get(one, 0) + number
    ids = np.array(sorted(sums), np.int64)
    sizes = np.array([counts[one] for one in ids.tolist()], np.int64)
    centers = np.array([sums[one] / counts[one] for one in ids.tolist()], np.float32)
    return ids, sizes, centers.reshape(len(ids), width)


class _Typical:
    """The members nearest to the middle of each cluster, as they come.

    Args:
        clusters: their number.
        most: members kept of each.
    """

    def __init__(self, clusters: int, most: int) -> None:
        self._most = most
        self._bound = np.full(clusters, np.inf)  # distance from which a member is not among the nearest
        self._at = (np.zeros(0, np.int64), np.zeros(0), np.zeros(0, object), np.zeros(0, object))

    def add(self, cluster: np.ndarray, off: np.ndarray, ids: Sequence[str], texts: Sequence[str | None]) -> None:
        near = np.flatnonzero(off <= self._bound[cluster])
        new = (cluster[near], off[near], np.array(ids, object)[near], np.array(texts, object)[near])
        self._at = tuple(np.concatenate(both) for both in zip(self._at, new, strict=True))  # type: ignore[assignment]
        if len(self._at[0]) > 4 * self._most * len(self._bound):
            self._drop_the_farther()

    def texts(self) -> list[list[str]]:
        self._drop_the_farther()
        ends = np.searchsorted(self._at[0], np.arange(len(self._bound) + 1))
        return [[t for t in self._at[3][a:b] if t] for a, b in pairwise(ends)]

    def _drop_the_farther(self) -> None:
        cluster, off, ids, _ = self._at
        order = np.lexsort((ids.astype(str), off, cluster))
        first = np.searchsorted(cluster[order], np.arange(len(self._bound)))
        order = order[np.arange(len(order)) - first[cluster[order]] < self._most]
        self._at = tuple(one[order] for one in self._at)  # type: ignore[assignment]
        full, last = np.unique(self._at[0][::-1], return_index=True)
        sizes = np.bincount(self._at[0], minlength=len(self._bound))
        farthest = self._at[1][::-1][last]
        self._bound[full] = np.where(sizes[full] >= self._most, farthest, np.inf)


@dataclass(frozen=True)
class Named:
    """Clusters that were named, and where they lay then: ids, names (None: no name yet) and centers [K, D]."""

    ids: list[int]
    names: Sequence[str | None]
    centers: np.ndarray

    @classmethod
    def none(cls) -> Named:
        """Return the state before any cluster has a name."""
        return cls([], [], np.zeros((0, 0), np.float32))

    def still(self, groups: Groups) -> list[str | None]:
        """Return for each group the name that it had, if it has moved less than clips lie from their middles."""
        at = {i: (name, center) for i, name, center in zip(self.ids, self.names, self.centers, strict=True)}
        found: list[str | None] = []
        for i, center in zip(groups.ids, groups.centers, strict=True):
            name, then = at.get(i, (None, center))
            stayed = then.shape == center.shape and float(((then - center) ** 2).sum()) < groups.spread + NEW
            found.append(name if stayed else None)
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the state as JSON."""
        values = base64.b64encode(self.centers.astype("<f4").tobytes()).decode()
        return {"ids": self.ids, "names": list(self.names), "centers": values, "dim": self.centers.shape[1]}

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> Named:
        """Read a state that `to_json` made."""
        centers = np.frombuffer(base64.b64decode(state["centers"]), "<f4").reshape(-1, state["dim"])
        return cls(state["ids"], state["names"], centers)
