"""How crowded a clip's neighbourhood is among the captions: training draws rare subjects more often."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from reelwright.annotate.contract import Column, SetAnnotator
from reelwright.annotate.sets.clustering.vectors import NEEDS, spread_out, vectors_of
from reelwright.curation.store.crowding import Neighbourhood


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
        density = Neighbourhood(self.k, self.exact_up_to, self.reference, self.seed).density(ids, vectors)
        return {"density": spread_out(density, rows, len(clips), pa.float32())}, None
