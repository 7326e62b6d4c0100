"""Captions as vectors: for search, clusters and density."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from reelwright.annotate.backends.identity import hub_source
from reelwright.annotate.backends.sentences import SentenceModel
from reelwright.annotate.contract import Annotator, Column, Need, Resources, Stored, runtime

CAPTIONS = ("caption", "source_caption", "composed_caption")


@dataclass(frozen=True)
class CaptionEmbedding(Annotator):
    """The clip's caption as a vector of unit length, by a sentence-transformers model.

    It is the first caption that the clip has in the columns of `of`. A clip without any has a null vector, which is no
    failure. A caption longer than the model reads is embedded in windows of sentences, averaged by their tokens;
    characters beyond 20,000 are left out.

    Args:
        of: columns of captions, the best first.
        model: a folder, or an id on the hub; "" is the MiniLM that pip installs. Its content decides values, not its
            place.
        revision: of the hub's model.
        gpus: of the process that holds the model; 0 runs it on the CPU.
    """

    of: tuple[str, ...] = CAPTIONS
    model: str = runtime("")
    revision: str = runtime("")
    gpus: float = runtime(0.0)

    name, version = "caption_embedding", 1
    profiles = ("cpu", "full")
    typical_s = 0.02

    def __post_init__(self) -> None:
        if not self.of:
            raise ValueError("caption_embedding: 'of' names no column; name at least one, such as caption")

    @property
    def needs(self) -> tuple[Need, ...]:
        """The captions to choose from, each optional."""
        return tuple(Stored(column, optional=True) for column in self.of)

    @property
    def columns(self) -> Mapping[str, Column]:
        """The embedding, as wide as the model makes it, and the caption it is of."""
        vector = pa.list_(pa.float32(), self._sentences.dim)
        return {
            "caption_embedding": Column(vector, "sentence embedding of the clip's caption", "unit vector"),
            "caption_embedding_of": Column(pa.string(), "the column whose caption it is"),
            "caption_embedding_model": Column(pa.string(), "the model that made it, with a hash of its content"),
        }

    @property
    def resources(self) -> Resources:
        """Batches of 256 captions; one process per model, but for the small one that comes with reelwright."""
        return Resources(gpus=self.gpus, batch=256, own_process=bool(self.model or self.gpus))

    @property
    def models(self) -> tuple[str, ...]:
        """The sentence model."""
        return (self._sentences.id,)

    @property
    def from_hub(self) -> tuple[str, str] | None:
        """The model and revision to load from a hub."""
        return hub_source(self.model, self.revision)

    @cached_property
    def _sentences(self) -> SentenceModel:
        return SentenceModel(self.model, self.revision)

    def __call__(self, *captions: str | None) -> dict[str, Any]:
        """One value or None for each column of `of`."""
        return self.batch([captions])[0]

    def batch(self, clips: Sequence[tuple]) -> list[dict[str, Any]]:
        """Embed the first caption of each clip, in the order of `of`."""
        chosen = [first_caption(self.of, captions) for captions in clips]
        vectors = iter(self._sentences.embed([text for _, text in chosen if text]))
        return [self._row(column, next(vectors) if column else None) for column, _ in chosen]

    def _row(self, column: str | None, vector: Any) -> dict[str, Any]:
        made_by = self._sentences.origin if column else None
        return {"caption_embedding": vector, "caption_embedding_of": column, "caption_embedding_model": made_by}


def first_caption(columns: Sequence[str], captions: Sequence[str | None]) -> tuple[str, str] | tuple[None, None]:
    """Return (column, caption) of the first caption with more than white space; (None, None) without any."""
    found = ((column, text) for column, text in zip(columns, captions, strict=True) if text and text.strip())
    return next(found, (None, None))
