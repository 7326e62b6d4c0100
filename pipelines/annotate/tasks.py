"""Annotating as plain functions that Ray runs on workers. A clip's failure is a result, not an error."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from reelwright.annotate.results import Annotated, joined
from reelwright.curation.media.errors import MediaError
from reelwright.curation.media.worker_sandbox import call
from reelwright.curation.results import Failed
from reelwright.curation.store import Store

SANDBOXED = "reelwright.pipelines.annotate.sandboxed"
Work = list[tuple[str, dict]]  # (name, parameters) of annotators


def annotate(
    store_uri: str,
    clip_ids: Sequence[str],
    annotators: Work,
    limits: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    producers: Mapping[str, str],
) -> list[Annotated]:
    """Annotate stored clips, with one decode per clip; rows: the columns that the annotators read."""
    results, store = [], Store(store_uri)
    with tempfile.TemporaryDirectory(prefix="reel-") as folder:
        for (_, mp4), row in zip(store.read_media(clip_ids), rows, strict=True):
            results.append(annotate_file(limits, laid_down(folder, mp4), annotators, row, producers))
    return results


def derive(rows: Sequence[Mapping[str, Any]], annotators: Work, producers: Mapping[str, str]) -> list[Annotated]:
    """Run annotators that read columns alone: nothing is decoded, so nothing needs a sandbox."""
    from reelwright.pipelines.annotate.sandboxed import derive_columns

    return derive_columns(rows, annotators, producers)


def annotate_file(
    limits: Mapping[str, Any],
    path: str,
    annotators: Work,
    row: Mapping[str, Any] | None = None,
    producers: Mapping[str, str] | None = None,
) -> Annotated:
    """Annotate one clip in the sandbox; an annotator that takes it down costs its own columns alone.

    Args:
        limits: Bounds of a sandbox call.
        path: The clip's file.
        annotators: (name, parameters) of those that share its decode.
        row: The columns that they read.
        producers: Column -> the annotator that writes it.
    """
    of_clip = {"row": dict(row or {}), "producers": dict(producers or {})}
    try:
        reply = call(limits, f"{SANDBOXED}:annotate_media", path=path, annotators=annotators, **of_clip)
        return Annotated.from_json(reply.value)
    except MediaError as error:
        if len(annotators) == 1:
            return Annotated(failures=[Failed.by(annotators[0][0], error)])
    return joined([annotate_file(limits, path, [annotator], row, producers) for annotator in annotators])


def laid_down(folder: str, mp4: bytes) -> str:
    """Write a clip to a file for the sandbox to read; returns its path."""
    path = os.path.join(folder, "clip.mp4")
    with open(path, "wb") as file:
        file.write(mp4)
    return path
