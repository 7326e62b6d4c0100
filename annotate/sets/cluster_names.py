"""A name for each cluster of clips: the words of its captions, or a chat model's choice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from reelwright.annotate.captions.caption_embedding import CAPTIONS, first_caption
from reelwright.annotate.chat.mixin import AsksAModel
from reelwright.annotate.chat.model import ChatModel
from reelwright.annotate.contract import (
    Column,
    Need,
    PartialResult,
    Postponed,
    Steps,
    Stored,
    StreamedSetAnnotator,
    result_of,
)  # fmt: skip
from reelwright.annotate.per_batch import PerBatch
from reelwright.annotate.set_reader import ClipReader
from reelwright.annotate.sets.clustering import names
from reelwright.annotate.sets.clustering.groups import CLUSTER, Groups, Named, groups_of
from reelwright.annotate.sets.clustering.vectors import NEEDS, CaptionVectors, Part

BY_TERMS = "c-tf-idf"
COMPOSED = "composed_caption"
OF_COMPOSED = " of composed captions"  # after who named it, where most of the cluster's captions are
NAMED_BY = 200  # captions of a cluster that are read, nearest to its middle first
STATES = 256  # that a call yields at most: up to so many clusters, one with each name
SHOWN = 20  # captions of a cluster that a model is shown


@dataclass(frozen=True)
class ClusterNames(AsksAModel, StreamedSetAnnotator):
    """Names of the clusters of `clusters`. A cluster that keeps its id and stays about where it was keeps its name.

    A cluster that the model does not name has no name, and the named ones keep theirs.

    Args:
        of: columns of captions, the best first.
        chat: a model that names a cluster from its most typical captions; without one, a name is their most typical
            words, by c-TF-IDF.
        prompt: name of a built-in prompt, or path of a file.
        attempts: rounds in which an invalid answer is asked for again.
    """

    of: tuple[str, ...] = CAPTIONS
    chat: ChatModel = ChatModel()  # noqa: RUF009 - frozen
    prompt: str = "cluster_name"
    attempts: int = 3

    name, version = "cluster_names", 2
    profiles = ("cpu", "full")
    typical_s = 0.001
    columns = {
        "cluster_name": Column(pa.string(), "what the cluster's captions have in common"),
        "cluster_named_by": Column(
            pa.string(),
            f"who named it: a chat model, or {BY_TERMS} (its most typical words); then '{OF_COMPOSED.strip()}' where "
            "most of its captions are composed from measurements",
        ),
    }

    def __post_init__(self) -> None:
        self.check_parameters(needs_model=False)

    @property
    def needs(self) -> tuple[Need, ...]:
        """The cluster of each clip, the vectors, and captions, each optional."""
        return (Stored(CLUSTER), *NEEDS, *(Stored(column, optional=True) for column in self.of))

    def stream(self, clips: ClipReader, state: Any) -> tuple[Iterable[Mapping[str, Any]], Any]:
        """Name clusters; a cluster close to one that was named in an earlier call keeps that name."""
        return result_of(self.steps(clips, state))

    def steps(self, clips: ClipReader, state: Any) -> Steps:
        """Name clusters, and yield the names so far as answers come."""
        vectors = CaptionVectors(clips)
        groups = groups_of(lambda: vectors.parts([CLUSTER, *self.of]), self._captions, NAMED_BY)
        before = Named.from_json(state["named"]) if state and state["model"] == vectors.model else Named.none()
        kept = before.still(groups)
        found: list[str | Exception | None] = list(kept)

        def named() -> names.Names:
            return names.told_apart([None if isinstance(name, Exception) else name for name in found], kept)

        def state_of(named: names.Names) -> dict[str, Any]:
            return {"model": vectors.model, "named": Named(groups.ids, named, groups.centers).to_json()}

        every = -(-len(groups.ids) // STATES)
        for number, (place, name) in enumerate(self._new_names(groups, kept), 1):
            found[place] = name
            if self.chat.model and number % every == 0:
                yield state_of(named())
        done = self._columns(vectors, groups, last := named()), state_of(last)
        problem = min((n for n in found if isinstance(n, Exception)), key=_is_final, default=None)
        if problem is not None:
            raise PartialResult(*done) from problem
        return done

    def _captions(self, part: Part) -> tuple[list[str | None], np.ndarray]:
        """Return each clip's caption, and whether it is composed from measurements."""
        columns = [part.column(column).to_pylist() for column in self.of]
        found = [first_caption(self.of, one) for one in zip(*columns, strict=True)]
        return [text for _, text in found], np.array([column == COMPOSED for column, _ in found], bool)

    def _new_names(self, groups: Groups, kept: names.Names) -> Iterable[tuple[int, str | Exception | None]]:
        """Return place and name of each cluster that keeps none."""
        new = [i for i, name in enumerate(kept) if not name]
        if not self.chat.model:
            by_terms = names.by_terms(groups.texts)
            return [(i, by_terms[i]) for i in new]
        asked = [[] if name else list(dict.fromkeys(one))[:SHOWN] for one, name in zip(groups.texts, kept, strict=True)]
        return names.by_model(asked, self.chat, self.prompt, self.attempts)

    def _columns(self, vectors: CaptionVectors, groups: Groups, named: names.Names) -> PerBatch:
        by = self.chat.model or BY_TERMS
        composed = [2 * marked > size for marked, size in zip(groups.marked, groups.sizes, strict=True)]
        of_group = {
            "cluster_name": pa.array(named, pa.string()),
            "cluster_named_by": pa.array(
                [by + OF_COMPOSED * of if name else None for name, of in zip(named, composed, strict=True)], pa.string()
            ),
        }
        return vectors.per_batch(_Told(vectors.model, np.array(groups.ids, np.int64), of_group), [CLUSTER])


@dataclass(frozen=True)
class _Told:
    """Tells clips what their clusters are called.

    Args:
        model: of the vectors that were clustered.
        ids: of the clusters, int [K], ascending.
        of_group: column -> its value for each cluster, [K].
    """

    model: str
    ids: np.ndarray
    of_group: Mapping[str, pa.Array]

    def __call__(self, clips: pa.Table) -> dict[str, Any]:
        part = Part.of(clips, self.model)
        cluster = part.column(CLUSTER).to_numpy(zero_copy_only=False)
        place = pa.array(np.searchsorted(self.ids, cluster), pa.int64())
        return {name: part.spread_out(values.take(place), pa.string()) for name, values in self.of_group.items()}


def _is_final(error: Exception) -> bool:
    """Return False for a postponement, which counts before a failure: the next run tries again."""
    return not isinstance(error, Postponed)
