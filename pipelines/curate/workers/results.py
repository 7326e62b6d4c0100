"""Results of the stages that run on workers, beside `Probed` and `Annotated`. `Failed` stands in for any of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reelwright.curation.clips import PlannedClip
from reelwright.curation.results import Failed


@dataclass(frozen=True)
class CutClip:
    """One clip that was cut.

    Args:
        row: Of `clips`, with the columns of annotators that shared its decode.
        num_bytes: Of its mp4.
        failures: Of those annotators.
    """

    row: dict[str, Any]
    num_bytes: int
    failures: Sequence[Failed] = ()


@dataclass(frozen=True)
class Cut:
    """Clips of one source; their bytes come as the task's second value.

    Args:
        clips: Those that were cut, in order.
        failed: Clip id -> why it could not be.
        seconds: Time on the worker.
        changed: The file is not the one that was probed: there are no clips.
    """

    clips: Sequence[CutClip]
    failed: Mapping[str, Failed]
    seconds: float
    changed: Failed | None = None


@dataclass(frozen=True)
class Scanned:
    """What a scan found of one source, as rows, and its clips.

    Args:
        columns: Of `sources`.
        shots: Rows of `shots`.
        clip_ids: All clips that are planned.
        batches: Clips that are yet to be cut, by task.
        rate: Frames per second of the file as a fraction; None where its times rule.
        no_clip_reason: Why none is planned.
        seconds: Of the scan, on the worker.
        cut: Clips that the same task cut: where it did, all of them.
        parts: Tasks that decoded the file side by side.
    """

    columns: dict[str, Any]
    shots: list[dict[str, Any]]
    clip_ids: Sequence[str]
    batches: Sequence[Sequence[PlannedClip]]
    rate: str | None
    no_clip_reason: str | None
    seconds: float
    cut: Cut | None = None
    parts: int = 1


@dataclass(frozen=True)
class MediaWritten:
    """Files of the store with clips, unseen until `fragments` is committed."""

    fragments: str
