"""Clusters as their members show them: who belongs to each, most typical first, and which have kept their place."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reelwright.annotate.sets.clustering.kmeans import NEW


@dataclass(frozen=True)
class Groups:
    """Members of clusters.

    Attributes:
        ids: of the clusters that have members, in order.
        members: rows of each, nearest to its middle first.
        centers: float32 [K, D], their means.
        spread: mean squared distance of members to their center.
    """

    ids: list[int]
    members: list[np.ndarray]
    centers: np.ndarray
    spread: float


def groups_of(ids: np.ndarray, vectors: np.ndarray) -> Groups:
    """Group vectors, float32 [N, D]; ids: the cluster of each."""
    found = np.unique(ids).tolist()
    members = []
    centers = []
    distances = [np.zeros(0, np.float32)]
    order = np.argsort(ids, kind="stable")
    for rows in np.split(order, np.searchsorted(ids[order], found[1:])) if found else []:
        centers.append(vectors[rows].mean(axis=0))
        off = ((vectors[rows] - centers[-1]) ** 2).sum(axis=1)
        members.append(rows[np.argsort(off, kind="stable")])
        distances.append(off)
    middle = np.array(centers, np.float32).reshape(len(found), vectors.shape[1])
    return Groups([int(i) for i in found], members, middle, float(np.concatenate(distances).mean()) if found else 0.0)


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
