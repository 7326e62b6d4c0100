"""Clusters of clips by what their captions say, and a name for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from annotate.backends.chat import ChatModel, keys_of, model_print, resources_of
from annotate.caption_embedding import CAPTIONS, first_caption
from annotate.chatting.prompts import load_prompt
from annotate.clustering import kmeans, names
from annotate.clustering.vectors import NEEDS, spread_out, vectors_of
from annotate.contract import Column, Need, Resources, SetAnnotator, Stored

BY_TERMS = "c-tf-idf"
NAMED_BY = 200  # captions of a cluster whose words count, nearest to its middle first
SHOWN = 20  # captions of a cluster that a model is shown


@dataclass(frozen=True)
class Clusters(SetAnnotator):
    """k-means over caption embeddings (mini-batches from 20,000 clips). New clips go to the nearest cluster; once there
    are more by `refit_growth`, or they lie further from their clusters by as much, all is fitted anew, and clusters
    that stay about where they were keep their ids.

    k: clusters; 0 takes the root of half the number of clips, at most max_k. chat: a model that names the clusters from
    their most typical captions; without one a name is their most typical words, by c-TF-IDF. of: columns of captions.
    """

    k: int = 0
    max_k: int = 256
    refit_growth: float = 0.2
    seed: int = 0
    of: tuple[str, ...] = CAPTIONS
    chat: ChatModel = ChatModel()  # noqa: RUF009 - frozen
    prompt: str = "cluster_name"
    attempts: int = 3

    name, version = "clusters", 1
    columns = {
        "cluster_id": Column(pa.int32(), "cluster of the clip's caption; stays the same as clips are added"),
        "cluster_name": Column(pa.string(), "what the cluster's captions have in common"),
        "cluster_named_by": Column(pa.string(), f"who named it: a chat model, or {BY_TERMS} (its most typical words)"),
    }

    def __post_init__(self) -> None:
        for name, least in (("k", 0), ("max_k", 1), ("refit_growth", 0), ("attempts", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"clusters: {name} = {getattr(self, name)}; it must be at least {least}")

    @property
    def needs(self) -> tuple[Need, ...]:
        return (*NEEDS, *(Stored(column, optional=True) for column in self.of))

    @property
    def models(self) -> tuple[str, ...]:
        return (*model_print(self.chat), load_prompt(self.prompt).print) if self.chat.model else ()

    @property
    def keys(self) -> tuple[str, ...]:
        return keys_of(self.chat)

    @property
    def resources(self) -> Resources:
        return resources_of(self.chat, batch=1) if self.chat.model else Resources()

    def __call__(self, clips: pa.Table, state: Any) -> tuple[Mapping[str, Any], Any]:
        rows, vectors, model = vectors_of(clips)
        if not len(rows):
            return {name: pa.nulls(len(clips), column.type) for name, column in self.columns.items()}, state
        before = kmeans.Fit.from_json(state["fit"]) if state and state["model"] == model else None
        if before is None or before.is_outgrown(vectors, self.refit_growth):
            k = self.k or kmeans.rule_of_thumb(len(rows), self.max_k)
            fit = kmeans.fit(vectors, k, self.seed, before)
            named = self._names(fit, vectors, clips.take(pa.array(rows)))
        else:
            fit, named = before, state["names"]
        labels = fit.labels(vectors)
        named_by = self.chat.model or BY_TERMS
        values = {
            "cluster_id": fit.ids[labels],
            "cluster_name": np.array(named, object)[labels],
            "cluster_named_by": np.array([named_by if name else None for name in named], object)[labels],
        }
        found = {name: spread_out(v, rows, len(clips), self.columns[name].type) for name, v in values.items()}
        return found, {"model": model, "fit": fit.to_json(), "names": named}

    def _names(self, fit: kmeans.Fit, vectors: np.ndarray, clips: pa.Table) -> names.Names:
        columns = [clips[column].to_pylist() for column in self.of]
        captions = [first_caption(self.of, one)[1] for one in zip(*columns, strict=True)]
        labels, distances = kmeans.nearest(vectors, fit.centroids)
        order = np.lexsort((distances, labels))
        groups = np.split(order, np.searchsorted(labels[order], np.arange(1, len(fit.ids))))
        texts = [[text for i in group[:NAMED_BY] if (text := captions[i])] for group in groups]
        if self.chat.model:
            typical = [list(dict.fromkeys(one))[:SHOWN] for one in texts]
            return names.by_model(typical, self.chat, self.prompt, self.attempts)
        return names.by_terms(texts)
