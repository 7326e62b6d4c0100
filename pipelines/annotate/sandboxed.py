"""Annotating inside a sandbox, one clip per call: JSON-like arguments in, JSON-like columns out."""

import functools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from reelwright.annotate import Annotator, annotate_clips, load
from reelwright.annotate.results import Annotated, failed_annotators, plain_columns
from reelwright.curation.media import kept
from reelwright.curation.media.remote import use_cache


def annotate_media(path: str, annotators: list, row: dict[str, Any], producers: dict[str, str]) -> dict[str, Any]:
    """Annotate a stored clip that was laid down at `path`: fields of `Annotated`."""
    use_cache(None)  # a clip of the store is a local file
    kept.forget()
    with open(path, "rb") as file:
        return asdict(annotate_mp4(file.read(), loaded(annotators), row, producers))


def derive_columns(
    rows: Sequence[Mapping[str, Any]], annotators: list, producers: Mapping[str, str]
) -> list[Annotated]:
    """Compute the columns of annotators that read columns alone, per row."""
    clock: Counter[str] = Counter()
    done = annotate_clips([None] * len(rows), loaded(annotators), rows, producers, clock=clock)
    share = {name: seconds / len(rows) for name, seconds in clock.items()}
    return [Annotated(plain_columns(columns), failed_annotators(failures), share) for columns, failures in done]


def annotate_mp4(
    mp4: bytes, annotators: list[Annotator], row: Mapping[str, Any], producers: Mapping[str, str]
) -> Annotated:
    """Annotate the bytes of a clip. row: the columns that annotators read; producers: column -> its annotator."""
    clock: Counter[str] = Counter()
    (columns, failures), *_ = annotate_clips([mp4], annotators, [row], producers, clock=clock)
    return Annotated(plain_columns(columns), failed_annotators(failures), dict(clock))


def loaded(annotators: list) -> list[Annotator]:
    """Return annotators, each loaded once per process: it keeps its model. annotators: (name, parameters)."""
    return [_annotator(name, json.dumps(params, sort_keys=True)) for name, params in annotators]


@functools.cache
def _annotator(name: str, params: str) -> Annotator:
    found = load(name, json.loads(params))
    assert isinstance(found, Annotator)
    return found
