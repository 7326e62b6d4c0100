"""How crowded a clip's neighbourhood is among the captions: training draws rare subjects more often."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from reelwright.annotate.contract import Column, SetAnnotator
from reelwright.annotate.sets.clustering.vectors import NEEDS, spread_out, vectors_of

SAME = 0.01  # cosine distance below which captions say the same: sentences that differ by an article
CHUNK = 1024  # clips at once, against all others


@dataclass(frozen=True)
class Density(SetAnnotator):
    """Density by the distance of the nearest captions: max(1, same / k) / max(mean distance, 0.01), with mean 1.

    The mean is over the cosine distances to the k nearest other clips (all others where there are fewer); same counts
    the other clips within 0.01, so that m copies of one caption weigh together about as much as one, however many.

    Exact up to `exact_up_to` clips. Beyond, distances are to a sample of so many clips, those with the smallest hash
    of seed and id: it stays the same but for few as clips come and go, and is the same sample for all.
    """

    k: int = 10
    exact_up_to: int = 50_000
    reference: int = 20_000
    seed: int = 0

    name, version = "density", 1
    profiles = ("cpu", "full")
    typical_s = 0.001
    needs = NEEDS
    columns = {"density": Column(pa.float32(), "crowding among caption embeddings; 1 is the mean of all clips")}

    def __post_init__(self) -> None:
        for name in ("k", "exact_up_to", "reference"):
            if getattr(self, name) < 1:
                raise ValueError(f"density: {name} = {getattr(self, name)}; it must be at least 1")

    def __call__(self, clips: pa.Table, state: Any) -> tuple[Mapping[str, Any], Any]:
        """Weigh how crowded each clip's neighbourhood is, exactly up to `exact_up_to` clips."""
        rows, vectors, _ = vectors_of(clips)
        ids = clips["clip_id"].take(pa.array(rows)).to_pylist()
        exact = len(ids) <= self.exact_up_to
        reference = np.arange(len(ids)) if exact else sample(ids, self.reference, self.seed)
        density = densities(vectors, reference, self.k)
        return {"density": spread_out(density, rows, len(clips), pa.float32())}, None


def densities(vectors: np.ndarray, reference: np.ndarray, k: int) -> np.ndarray:
    """Return densities, float32 [N] with mean 1.

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


def sample(ids: Sequence[str], count: int, seed: int) -> np.ndarray:
    """Return the rows of the `count` ids with the smallest hash, int [count], ascending."""
    hashes = [hashlib.blake2b(f"{seed}:{one}".encode(), digest_size=8).digest() for one in ids]
    return np.sort(np.array(sorted(range(len(ids)), key=hashes.__getitem__)[:count]))
