"""How crowded a clip's neighbourhood is among the captions: training draws rare subjects more often."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelwright.annotate.contract import Column, StreamedSetAnnotator
from reelwright.annotate.set_reader import ClipReader
from reelwright.annotate.sets.clustering.vectors import NEEDS, CaptionVectors
from reelwright.curation.store.crowding import Crowding, Neighbourhood


@dataclass(frozen=True)
class Density(StreamedSetAnnotator):
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

    def stream(self, clips: ClipReader, state: Any) -> tuple[Iterator[Mapping[str, Any]], Any]:
        """Weigh how crowded each clip's neighbourhood is, exactly up to `exact_up_to` clips."""
        vectors = CaptionVectors(clips)
        if not vectors.count:
            return vectors.nothing([("density", pa.float32())]), None
        among = Neighbourhood(self.k, self.exact_up_to, self.reference, self.seed)
        ids, reference = vectors.sample(among.references(vectors.count), self.seed)
        crowding = Crowding(reference, self.k, vectors.count)
        found = []
        for part in vectors.parts():
            own = pc.fill_null(pc.index_in(part.ids, ids), -1).to_numpy()
            found.append(part.spread_out(crowding.of(part.vectors, own), pa.float32()))
        mean = np.concatenate([one.drop_null().to_numpy() for one in found]).mean()
        return ({"density": pc.divide(one, pa.scalar(mean, pa.float32()))} for one in found), None
