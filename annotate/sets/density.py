"""How crowded a clip's neighbourhood is among the captions: training draws rare subjects more often."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from reelwright.annotate.contract import Column, StreamedSetAnnotator
from reelwright.annotate.set_reader import ClipReader
from reelwright.annotate.sets.clustering.vectors import NEEDS, CaptionVectors
from reelwright.curation.vectors.crowding import Neighbourhood


@dataclass(frozen=True)
class Density(StreamedSetAnnotator):
    """Density by the distance of the nearest captions: max(1, same / k) / max(mean distance, 0.01), with mean 1.

    The mean is over the cosine distances to the k nearest other clips (all others where there are fewer); same counts
    the other clips within 0.01, so that m copies of one caption weigh together about as much as one, however many.

    Exact up to `exact_up_to` clips. Beyond, neighbours are looked for in the `probes` cells nearest to each clip, of
    cells by k-means that have some 500 clips each, and root(N) / 2 beyond a million. Of a cell with more than 8 times
    the mean, so many clips stand for all. Bounds against exact densities are in benchmarks/RESULTS.md.
    """

    k: int = 10
    exact_up_to: int = 50_000
    probes: int = 32
    seed: int = 0

    name, version = "density", 2
    profiles = ("cpu", "full")
    typical_s = 0.001
    needs = NEEDS
    columns = {"density": Column(pa.float32(), "crowding among caption embeddings; 1 is the mean of all clips")}

    def __post_init__(self) -> None:
        for name in ("k", "exact_up_to", "probes"):
            if getattr(self, name) < 1:
                raise ValueError(f"density: {name} = {getattr(self, name)}; it must be at least 1")

    def stream(self, clips: ClipReader, state: Any) -> tuple[Iterator[Mapping[str, Any]], Any]:
        """Weigh how crowded each clip's neighbourhood is, exactly up to `exact_up_to` clips."""
        vectors = CaptionVectors(clips)
        if not vectors.count:
            return vectors.nothing([("density", pa.float32())]), None
        rows: list[np.ndarray] = []
        found = Neighbourhood(self.k, self.exact_up_to, self.probes, self.seed).density(
            _parts(vectors, rows), vectors.count
        )
        return _columns(rows, found), None


def _parts(vectors: CaptionVectors, rows: list[np.ndarray]) -> Iterator[tuple[list[str], np.ndarray]]:
    """Yield ids and vectors, and note which clips of each batch have one, bool [batch]."""
    for part in vectors.parts():
        mask = np.zeros(len(part.clips), bool)
        mask[part.rows] = True
        rows.append(mask)
        yield part.ids.to_pylist(), part.vectors


def _columns(rows: list[np.ndarray], found: np.ndarray) -> Iterator[Mapping[str, Any]]:
    """Yield the densities of each batch: null for a clip without a vector, or with one that is not finite."""
    start = 0
    for mask in rows:
        values = np.full(len(mask), np.nan, np.float32)
        end = start + int(mask.sum())
        values[mask] = found[start:end]
        yield {"density": pa.array(values, from_pandas=True)}
        start = end
