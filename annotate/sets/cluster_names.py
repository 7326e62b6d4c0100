"""A name for each cluster of clips: the words of its captions, or a chat model's choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from reelwright.annotate.captions.caption_embedding import CAPTIONS, first_caption
from reelwright.annotate.chat.mixin import AsksAModel
from reelwright.annotate.chat.model import ChatModel
from reelwright.annotate.contract import Column, Need, PartialResult, Postponed, SetAnnotator, Stored
from reelwright.annotate.sets.clustering import names
from reelwright.annotate.sets.clustering.groups import Groups, Named, groups_of
from reelwright.annotate.sets.clustering.vectors import NEEDS, spread_out, vectors_of

BY_TERMS = "c-tf-idf"
COMPOSED = "composed_caption"
OF_COMPOSED = " of composed captions"  # after who named it, where most of the cluster's captions are
NAMED_BY = 200  # captions of a cluster that are read, nearest to its middle first
SHOWN = 20  # captions of a cluster that a model is shown


@dataclass(frozen=True)
class ClusterNames(AsksAModel, SetAnnotator):
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
        return (Stored("cluster_id"), *NEEDS, *(Stored(column, optional=True) for column in self.of))

    def __call__(self, clips: pa.Table, state: Any) -> tuple[Mapping[str, Any], Any]:
        """Name clusters; a cluster close to one that was named in an earlier call keeps that name."""
        rows, vectors, model = vectors_of(clips)
        groups = groups_of(clips["cluster_id"].to_numpy()[rows], vectors)
        before = Named.from_json(state["named"]) if state and state["model"] == model else Named.none()
        kept = before.still(groups)
        found = self._names(groups, clips.take(pa.array(rows)), kept)
        named = names.told_apart([None if isinstance(name, Exception) else name for name in found], kept)
        composed = self._of_composed(groups, clips.take(pa.array(rows)))
        done = self._columns(named, composed, groups, rows, len(clips)), {
            "model": model, "named": Named(groups.ids, named, groups.centers).to_json()
        }  # fmt: skip
        problem = min((n for n in found if isinstance(n, Exception)), key=_is_final, default=None)
        if problem is not None:
            raise PartialResult(*done) from problem
        return done

    def _names(self, groups: Groups, clips: pa.Table, kept: names.Names) -> Sequence[str | Exception | None]:
        """Return the kept names, and new ones for the other clusters."""
        columns = [clips[column].to_pylist() for column in self.of]
        captions = [first_caption(self.of, one)[1] for one in zip(*columns, strict=True)]
        texts = [[text for i in members[:NAMED_BY] if (text := captions[i])] for members in groups.members]
        if not self.chat.model:
            return [old or new for old, new in zip(kept, names.by_terms(texts), strict=True)]
        asked = [[] if name else list(dict.fromkeys(one))[:SHOWN] for one, name in zip(texts, kept, strict=True)]
        made = names.by_model(asked, self.chat, self.prompt, self.attempts)
        return [old or new for old, new in zip(kept, made, strict=True)]

    def _of_composed(self, groups: Groups, clips: pa.Table) -> list[bool]:
        """Return whether most captions of each cluster are composed from measurements, so that its name is too."""
        columns = [clips[column].to_pylist() for column in self.of]
        of = [first_caption(self.of, one)[0] for one in zip(*columns, strict=True)]
        return [2 * sum(of[i] == COMPOSED for i in members) > len(members) for members in groups.members]

    def _columns(
        self, named: names.Names, composed: Sequence[bool], groups: Groups, rows: np.ndarray, count: int
    ) -> dict[str, Any]:
        by = self.chat.model or BY_TERMS
        named_by = [by + (OF_COMPOSED if one else "") for one in composed]
        of_group = {
            "cluster_name": named,
            "cluster_named_by": [who if name else None for name, who in zip(named, named_by, strict=True)],
        }
        found = {}
        for column, values in of_group.items():
            of_clip = np.full(len(rows), None, object)
            for value, members in zip(values, groups.members, strict=True):
                of_clip[members] = value
            found[column] = spread_out(of_clip, rows, count, pa.string())
        return found


def _is_final(error: Exception) -> bool:
    """Return False for a postponement, which counts before a failure: the next run tries again."""
    return not isinstance(error, Postponed)
