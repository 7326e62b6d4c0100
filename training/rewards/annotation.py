"""Annotators of clips as rewards: the code that scored the data scores the samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from reelwright.annotate import registry
from reelwright.annotate.contract import Annotator, Facts, Frames, Resources, deciding, needs_of, stored_needs
from reelwright.annotate.run import Failure, annotate_clips
from reelwright.curation.media.unencoded import Unencoded, encode_clip
from reelwright.training.rewards.contract import Reward, Score, Unscored, Video

if TYPE_CHECKING:
    from reelwright.curation.media.encode import EncodeConfig

FROM_THE_PROMPT = ("caption", "source_caption")
"""Columns of a clip that a sample has too: its prompt."""


@dataclass(frozen=True)
class Annotation(Reward):
    """A column of an annotator of clips, times sign and scale.

    Frames go through the clip encoder's conversion of colours and are sampled as a clip's are, so the numbers are those
    of a clip whose coding lost nothing. With `encode`, samples are encoded as clips are, and their files are annotated.

    Args:
        annotator: its name.
        column: of numbers, or of true (1) and false (0); empty where the annotator has only one.
        sign: -1 where less is better, as with text and watermarks.
        scale: the number is multiplied by it.
        settings: parameters of the annotator.
        encode: settings of the clip encoder, {} for its defaults; null: samples are not encoded.
    """

    annotator: str = ""
    column: str = ""
    sign: Literal[1, -1] = 1
    scale: float = 1.0
    settings: Mapping[str, Any] = field(default_factory=dict)
    encode: Mapping[str, Any] | None = None

    name, version = "annotation", 1

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError(f"scale {self.scale} must be above 0; a minus is sign: -1")
        if not self.annotator:
            raise ValueError("annotator is empty; name an annotator of clips, as in annotator: blur")
        self._refuse_needs()
        _ = self._column, self._encoder

    @property
    def resources(self) -> Resources:
        """Those of the annotator."""
        return self._annotator.resources

    @property
    def models(self) -> tuple[str, ...]:
        """The annotator by name and fingerprint, which covers its version, parameters and models, and its models."""
        return (f"annotator:{self.annotator}@{self._annotator.fingerprint}", *self._annotator.models)

    @property
    def keys(self) -> tuple[str, ...]:
        """Those of the annotator."""
        return self._annotator.keys

    @property
    def deciding(self) -> dict[str, Any]:
        """Its parameters, with all of the annotator's that decide a value."""
        encode = self._encoder.model_dump() if self._encoder else None
        return {**deciding(self), "column": self._column, "settings": deciding(self._annotator), "encode": encode}

    def prepare(self) -> None:
        """Load the annotator's models."""
        self._annotator.prepare()

    def __call__(self, videos: Sequence[Video]) -> list[Score]:
        """Annotate the samples together, as a run annotates a batch of clips."""
        clips = [Unencoded(video.frames, video.rate) for video in videos]
        files = [encode_clip(clip, self._encoder) for clip in clips] if self._encoder else clips
        rows = [dict.fromkeys(FROM_THE_PROMPT, video.prompt) for video in videos]
        return [self._score(*found) for found in annotate_clips(files, [self._annotator], rows)]

    @cached_property
    def _annotator(self) -> Annotator:
        annotator = registry.load(self.annotator, self.settings)
        if not isinstance(annotator, Annotator):
            raise ValueError(f"annotator {self.annotator!r} computes its columns from all clips of a store at once")
        return annotator

    @cached_property
    def _encoder(self) -> EncodeConfig | None:
        from reelwright.curation.media.encode import EncodeConfig

        return None if self.encode is None else EncodeConfig.model_validate(self.encode)

    @cached_property
    def _column(self) -> str:
        columns = self._annotator.columns
        usable = [name for name, column in columns.items() if _is_number(column.type)]
        if not self.column and len(usable) == 1:
            return usable[0]
        if self.column not in usable:
            what = f"{self.column!r} is not" if self.column else "column is empty, which is not"
            raise ValueError(f"{what} a column of numbers of annotator {self.annotator!r}; choose {_either(usable)}")
        return self.column

    def _refuse_needs(self) -> None:
        for need in stored_needs(self._annotator):
            if need.column not in FROM_THE_PROMPT and not need.optional:
                raise ValueError(
                    f"annotator {self.annotator!r} needs column {need.column!r} of a stored clip; a sample has "
                    f"{_either(FROM_THE_PROMPT)}, its prompt, and no other"
                )
        needs = needs_of(self._annotator)
        only_facts = any(isinstance(need, Facts) for need in needs) and not any(isinstance(n, Frames) for n in needs)
        if only_facts and self.encode is None:
            raise ValueError(
                f"annotator {self.annotator!r} measures the clip's file, and a sample has none; encode it: encode: {{}}"
            )

    def _score(self, columns: Mapping[str, Any], failures: Sequence[Failure]) -> Score:
        if failures:
            return Unscored(f"annotator {self.annotator}: {failures[0].error}")
        value = columns[self._column]
        if value is None:
            return Unscored(f"annotator {self.annotator}: {self._column} is null")
        return self.sign * self.scale * float(value)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)


def _either(names: Sequence[str]) -> str:
    return " or ".join(names) or "another annotator, as this one has none"
