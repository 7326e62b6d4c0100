"""Clusters of clips by their captions; `cluster_names` names them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from reelwright.annotate.contract import Column, SetAnnotator
from reelwright.annotate.sets.clustering import kmeans
from reelwright.annotate.sets.clustering.vectors import NEEDS, spread_out, vectors_of


@dataclass(frozen=True)
class Clusters(SetAnnotator):
    """k-means over caption embeddings (mini-batches from 20,000 clips).

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

    def __call__(self, clips: pa.Table, state: Any) -> tuple[Mapping[str, Any], Any]:
        """Assign each clip to a cluster; ids stay as long as clusters stay near where they were."""
        rows, vectors, model = vectors_of(clips)
        if not len(rows):
            return {"cluster_id": pa.nulls(len(clips), pa.int32())}, state
        fit = kmeans.Fit.from_json(state["fit"]) if state and state["model"] == model else None
        if fit is None or fit.is_outgrown(vectors, self.refit_growth):
            fit = kmeans.fit(vectors, self.k or kmeans.rule_of_thumb(len(rows), self.max_k), self.seed, fit)
        ids = fit.ids[fit.labels(vectors)]
        return {"cluster_id": spread_out(ids, rows, len(clips), pa.int32())}, {"model": model, "fit": fit.to_json()}
