"""From the categories that a model is weak in to the clusters of footage near them: what is scarce, and by how much.

A cluster is near a weak category where the mean of its prompts lies as close to the cluster's centre, up to `REACH`, as
the cluster's own captions do. A near cluster is scarce where its share of the clips, as weighed, is below an equal
part; weights bring it to that part, up to the cap. Where a category has no near cluster, footage is missing, and no
weight helps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from reelwright.curation.store import Store, StoreError
from reelwright.curation.store.given_weights import GivenWeights
from reelwright.curation.store.weighting import CAP, effective_size
from reelwright.evaluation.weakness import CategoryScore, category_scores
from reelwright.pipelines.browse.balance.evaluated import Evaluated
from reelwright.pipelines.browse.balance.measure import to_collect
from reelwright.pipelines.browse.balance.rows import EMBEDDING, batches, embeddings, maker
from reelwright.pipelines.browse.search import caption_vectors, origins

CLUSTER, NAME = "cluster_id", "cluster_name"
REACH = 0.5
"""Cosine of a category's prompts to a near cluster's centre, at least, as a part of that of the cluster's captions."""
MOST_NEAR, BESIDE = 3, 0.75
"""Clusters near one category, at most, and the cosine of each as a part of that of the nearest."""


@dataclass(frozen=True)
class Cluster:
    """Clips of one cluster.

    Attributes:
        share: of the set's weight.
        centre: unit vector [D], the mean of its captions' embeddings.
        spread: mean cosine of its captions to the centre.
    """

    id: int
    name: str
    clips: int
    hours: float
    share: float
    centre: np.ndarray
    spread: float


@dataclass(frozen=True)
class Near:
    """A cluster near a weak category. cosine: of the category's prompts to its centre."""

    cluster: Cluster
    cosine: float


@dataclass(frozen=True)
class Weak:
    """A weak category and the footage near it.

    Attributes:
        near: clusters, the nearest first; empty where there is no such footage.
        nearest: the closest cluster, near or not.
    """

    score: CategoryScore
    near: list[Near]
    nearest: Near


@dataclass(frozen=True)
class Advice:
    """What an evaluation says of a set of clips.

    Attributes:
        scores: of all categories, the weakest first.
        weak: the weak ones.
        scarce: clusters to weigh up, with the factor over a clip of other clusters.
        collect: cluster id -> clips that bring it to an equal part without weights.
        weights: for `reel snapshot create --weights`; None where nothing is scarce.
        effective: clips of equal weight that the weighed set is worth, before and after (Kish, 1965).
        at_cap: clips at the cap.
    """

    evaluated: Evaluated
    scores: list[CategoryScore]
    weak: list[Weak]
    clusters: list[Cluster]
    scarce: list[tuple[Cluster, float]]
    collect: Mapping[int, int]
    weights: GivenWeights | None
    effective: tuple[float, float]
    clips: int
    at_cap: int


def advise(
    store: Store, evaluated: Evaluated, *, where: str | None = None, snapshot: str | None = None, cap: float = CAP
) -> Advice:
    """Find the footage near the categories that a model is weak in, and weights that make up for its scarcity.

    Args:
        store: of the clips.
        evaluated: one model's generations with their values.
        where: SQL condition over clips_full that chooses the clips.
        snapshot: measure this snapshot's clips, with its weights.
        cap: largest weight, the mean being 1.

    Raises:
        StoreError: the clips have no clusters or no caption embeddings.
    """
    scores = category_scores(evaluated.generations)
    origin = next(iter(origins(store, EMBEDDING)))
    clips = _read(store, where, snapshot)
    clusters = clusters_of(clips)
    weak = [_placed(one, clusters, origin) for one in scores if one.is_weak]
    near = {one.cluster.id: one.cluster for category in weak for one in category.near}
    equal = 1 / len(clusters)
    scarce = sorted((c for c in near.values() if c.share < equal), key=lambda c: c.id)
    factors = _factors(scarce, equal)
    found = [(cluster, factors[cluster.id]) for cluster in scarce]
    collect = _to_collect(clusters, {c.id for c in scarce})
    before = clips["weight"].to_numpy()
    weights = _weights(store, evaluated, weak, found, cap) if found else None
    after, at_cap = before, 0
    if weights is not None:
        made = pa.chunked_array([pa.array([weights.fingerprint] * len(clips), pa.string())])
        weighed = weights.weigh(clips.column(CLUSTER), made)
        after, at_cap = weighed.weights, weighed.at_cap
    effective = (effective_size(before), effective_size(after))
    return Advice(evaluated, scores, weak, clusters, found, collect, weights, effective, len(clips), at_cap)


def clusters_of(clips: pa.Table) -> list[Cluster]:
    """Return the clusters of clips, by id. clips: cluster_id, cluster_name, duration_s, weight, the embedding."""
    vectors, has = embeddings(clips.column("vector"))
    ids = np.array([-1 if one is None else one for one in clips.column(CLUSTER).to_pylist()])
    names, seconds = clips.column(NAME).to_pylist(), clips.column("duration_s").to_numpy(zero_copy_only=False)
    weight = clips.column("weight").to_numpy()
    total = weight[ids >= 0].sum()
    found = []
    for one in np.unique(ids[(ids >= 0) & has]):
        own = vectors[ids[has] == one]
        mean = own.mean(0)
        centre = mean / max(float(np.linalg.norm(mean)), 1e-12)
        rows = np.flatnonzero(ids == one)
        name = next((names[i] for i in rows if names[i]), None) or f"cluster {one}"
        hours, share = float(np.nansum(seconds[rows]) / 3600), float(weight[rows].sum() / total)
        found.append(Cluster(int(one), name, len(rows), hours, share, centre, float((own @ centre).mean())))
    if not found:
        raise StoreError("no clip has a cluster with caption embeddings; reel annotate --only clusters")
    return found


def _placed(score: CategoryScore, clusters: Sequence[Cluster], origin: str) -> Weak:
    mean = caption_vectors(score.prompts, origin).mean(0)
    mean /= max(float(np.linalg.norm(mean)), 1e-12)
    every = sorted((Near(c, float(mean @ c.centre)) for c in clusters), key=lambda one: (-one.cosine, one.cluster.id))
    near = [one for one in every[:MOST_NEAR] if one.cosine >= REACH * one.cluster.spread]
    best = near[0].cosine if near else 0.0
    return Weak(score, [one for one in near if one.cosine >= BESIDE * best], every[0])


def _factors(scarce: Sequence[Cluster], equal: float) -> dict[int, float]:
    """Weight of a clip of each scarce cluster over that of a clip of the others, so that all have an equal part."""
    wanted, had = len(scarce) * equal, sum(c.share for c in scarce)
    others = (1 - wanted) / (1 - had) if had < 1 else 1.0
    return {c.id: (equal / c.share) / others for c in scarce}


def _to_collect(clusters: Sequence[Cluster], scarce: set[int]) -> dict[int, int]:
    counts = np.array([c.clips for c in clusters])
    under = np.array([c.id in scarce for c in clusters])
    more = to_collect(counts, np.full(len(clusters), 1 / len(clusters)), under)
    return {c.id: int(n) for c, n in zip(clusters, more, strict=True) if n}


def _weights(
    store: Store, evaluated: Evaluated, weak: Sequence[Weak], scarce: Sequence[tuple[Cluster, float]], cap: float
) -> GivenWeights:
    mark = f"{maker(store.schema('clips'), CLUSTER)}_fingerprint"
    query = f"SELECT {mark} AS made FROM clips WHERE {mark} IS NOT NULL GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1"
    made = store.sql(query)["made"].to_pylist() if mark in store.schema("clips").names else []
    why = {
        "evaluation": evaluated.name, "evaluation_id": evaluated.evaluation_id, "model": evaluated.model,
        "measure": evaluated.measure, "categories": [one.score.name for one in weak],
    }  # fmt: skip
    weights = {str(cluster.id): round(factor, 6) for cluster, factor in scarce}
    return GivenWeights(CLUSTER, weights, cap=cap, fingerprint=made[0] if made else None, why=why)


def _read(store: Store, where: str | None, snapshot: str | None) -> pa.Table:
    schema = store.schema("clips")
    for name in (CLUSTER, EMBEDDING):
        if name not in schema.names:
            raise StoreError(f"the clips have no {name} yet; reel annotate --only {maker(schema, name) or 'clusters'}")
    wanted = {one: one for one in (CLUSTER, NAME, "duration_s") if one in schema.names} | {"vector": EMBEDDING}
    clips = pa.concat_tables(batches(store, wanted, where, snapshot))
    if NAME not in clips.schema.names:
        clips = clips.append_column(NAME, pa.nulls(len(clips), pa.string()))
    if "weight" not in clips.schema.names:
        clips = clips.append_column("weight", pa.array(np.ones(len(clips))))
    return clips
