"""Clusters of clips by their captions; `cluster_names` names them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from reelwright.annotate.contract import Column, StreamedSetAnnotator
from reelwright.annotate.set_reader import ClipReader
from reelwright.annotate.sets.clustering import kmeans
from reelwright.annotate.sets.clustering.vectors import NEEDS, CaptionVectors, Part


@dataclass(frozen=True)
class Clusters(StreamedSetAnnotator):
    """k-means over caption embeddings (mini-batches from 20,000 clips; fitted to a sample of 100,000 of more).

    New clips go to the nearest cluster. Once there are more clips by `refit_growth`, or they lie further from their
    clusters by as much, everything is fitted again, and clusters that stay about where they were keep their ids.

    Args:
        k: clusters; 0: the root of half the number of clips, at most max_k.
        max_k: bound of k = 0.
        refit_growth: share by which clips or distances grow before a new fit.
        seed: of the fit.
    """

    k: int = 0
    max_k: int = 256
    refit_growth: float = 0.2
    seed: int = 0

    name, version = "clusters", 3
    profiles = ("cpu", "full")
    typical_s = 0.002
    needs = NEEDS
    columns = {"cluster_id": Column(pa.int32(), "cluster of the clip's caption; stays the same as clips are added")}

    def __post_init__(self) -> None:
        for name, least in (("k", 0), ("max_k", 1), ("refit_growth", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"clusters: {name} = {getattr(self, name)}; it must be at least {least}")

    def stream(self, clips: ClipReader, state: Any) -> tuple[Iterable[Mapping[str, Any]], Any]:
        """Assign each clip to a cluster; ids stay as long as clusters stay near where they were."""
        vectors = CaptionVectors(clips)
        if not vectors.count:
            return vectors.nothing([("cluster_id", pa.int32())]), state
        fit = kmeans.Fit.from_json(state["fit"]) if state and state["model"] == vectors.model else None
        _, sample = vectors.sample(kmeans.FIT_ON, self.seed)
        if fit is None or fit.is_outgrown(sample, vectors.count, self.refit_growth):
            k = self.k or kmeans.rule_of_thumb(vectors.count, self.max_k)
            fit = kmeans.fit(sample, k, self.seed, fit, of=vectors.count)
        return vectors.per_batch(_Assigned(vectors.model, fit)), {"model": vectors.model, "fit": fit.to_json()}


@dataclass(frozen=True)
class _Assigned:
    """Assigns clips to the clusters of a fit. model: of the vectors that were fitted."""

    model: str
    fit: kmeans.Fit

    def __call__(self, clips: pa.Table) -> dict[str, Any]:
        part = Part.of(clips, self.model)
        return {"cluster_id": part.spread_out(self.fit.ids[self.fit.labels(part.vectors)], pa.int32())}
