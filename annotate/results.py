"""Results of annotating that travel between processes and become rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reelwright.annotate.run import Failure
from reelwright.curation.results import UNMEASURABLE, Failed
from reelwright.curation.usage import Lap


@dataclass(frozen=True)
class Annotated:
    """Columns that annotators computed of one clip, and their failures.

    Args:
        columns: Values as JSON knows them, fingerprints among them.
        failures: One per annotator that failed or postponed the clip, or found nothing to measure in it.
        seconds: Annotator -> time that it took.
        usage: Tokens and cost of a model that was asked, since the last result.
        took: What a worker that keeps its annotator took since then.
    """

    columns: Mapping[str, Any] = field(default_factory=dict)
    failures: Sequence[Failed] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    usage: Mapping[str, Any] = field(default_factory=dict)
    took: Lap | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Annotated:
        """Read it as a sandbox answers: its fields as JSON."""
        return cls(value["columns"], [Failed(**failure) for failure in value["failures"]], value["seconds"])


def joined(parts: Sequence[Annotated]) -> Annotated:
    """Return the results of several calls about one clip as one, without usage."""
    return Annotated(
        columns={name: value for part in parts for name, value in part.columns.items()},
        failures=[failed for part in parts for failed in part.failures],
        seconds={name: seconds for part in parts for name, seconds in part.seconds.items()},
    )


def plain_columns(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Columns as JSON-like values: arrays become lists."""
    return {name: value.tolist() if hasattr(value, "tolist") else value for name, value in columns.items()}


def failed_annotators(failures: Sequence[Failure]) -> list[Failed]:
    """Return an annotation's failures as results."""
    return [
        Failed(f.annotator, f.error, f.detail, UNMEASURABLE if f.unmeasurable else "", postponed=f.postponed)
        for f in failures
    ]
