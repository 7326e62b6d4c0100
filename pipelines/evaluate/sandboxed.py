"""Calls that run inside a sandbox: measures of one generation, as annotators of one clip."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from reelwright.annotate import annotate_clips
from reelwright.annotate.contract import Annotator
from reelwright.annotate.results import Annotated, failed_annotators, plain_columns
from reelwright.evaluation.measures.registry import load


def measure_media(path: str, measures: list) -> dict[str, Any]:
    """Measure a video that was laid down at `path`: fields of `Annotated`. measures: (name, parameters)."""
    with open(path, "rb") as file:
        return asdict(measure_all([file.read()], [loaded(name, params) for name, params in measures])[0])


def measure_all(mp4s: Sequence[bytes], measures: Sequence[Annotator]) -> list[Annotated]:
    """Measure videos by the code that annotates clips."""
    clock: Counter[str] = Counter()
    found = annotate_clips(mp4s, measures, clock=clock)
    share = {name: seconds / len(mp4s) for name, seconds in clock.items()}
    return [Annotated(plain_columns(columns), failed_annotators(failures), share) for columns, failures in found]


def loaded(name: str, params: dict[str, Any]) -> Annotator:
    """Return a measure, loaded once per process: it keeps its model."""
    return _loaded(name, json.dumps(params, sort_keys=True))


@functools.cache
def _loaded(name: str, params: str) -> Annotator:
    return load(name, json.loads(params))
