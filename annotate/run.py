"""Annotating a clip: decoded once for all annotators, and one annotator's failure is its own."""

from __future__ import annotations

import math
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from reelwright.annotate.contract import (
    Annotator,
    Computes,
    Facts,
    Frames,
    Need,
    Postponed,
    Stored,
    Unmeasurable,
    fingerprint_with,
    needs_of,
    refuse_shared_columns,
    stored_needs,
)  # fmt: skip
from reelwright.curation.media.frames import ClipFacts, read


@dataclass(frozen=True)
class Failure:
    """One annotator failed on one clip; the other columns of the clip are not touched.

    postponed: the clip is not to blame, and the next run tries again. unmeasurable: it is none: the annotator is done
    with the clip, and its columns are null for the reason in `error`.
    """

    annotator: str
    error: str
    detail: str
    postponed: bool = False
    unmeasurable: bool = False


def annotate_clip(
    mp4: bytes | None, annotators: Sequence[Annotator], row: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], list[Failure]]:
    """Columns (with `<name>_fingerprint` for each annotator that is done) and failures of one clip.

    mp4: None where no annotator looks at the clip. row: the clip's other columns, for annotators that need some;
        columns of annotators earlier in the list are visible to later ones.
    """
    return annotate_clips([mp4], annotators, [row or {}])[0]


def annotate_clips(
    mp4s: Sequence[bytes | None],
    annotators: Sequence[Annotator],
    rows: Sequence[Mapping[str, Any]] | None = None,
    producers: Mapping[str, str] | None = None,
    *,
    gate: Callable[[], AbstractContextManager[object]] = nullcontext,
    decoder: Callable[[], AbstractContextManager[object]] = nullcontext,
    clock: Counter[str] | None = None,
) -> list[tuple[dict[str, Any], list[Failure]]]:
    """`annotate_clip` of several. What a lone annotator keeps of them (`Annotator.kept`) is held at once, for several
    annotators all frames: keep it to a batch.

    producers: column -> annotator that made it, for the columns of `rows` (which then hold its fingerprint too).
    gate: entered while an annotator computes, decoder: while a clip is decoded. clock: seconds are added up here, by
        annotator, and those of decoding under "decode".
    """
    clock = Counter() if clock is None else clock
    refuse_shared_columns(annotators)
    made_by = {**(producers or {}), **{column: a.name for a in annotators for column in a.columns}}
    frames = list(dict.fromkeys(n for a in annotators for n in needs_of(a) if isinstance(n, Frames)))
    facts = any(isinstance(n, Facts) for a in annotators for n in needs_of(a))
    lone = annotators[0] if len(annotators) == 1 else None
    seen = [dict(row) for row in rows or [{}] * len(mp4s)]
    known: list[Known] = []
    given: list[Given] = []  # to the lone annotator, whose frames need not be held
    for mp4, row in zip(mp4s, seen, strict=True):
        with decoder(), _timed(clock, "decode"):
            read = _read_needs(mp4, frames, facts)
            given.append(_given(lone, read, row) if lone else ())
            known.append({} if lone else read)
    results: list[tuple[dict[str, Any], list[Failure]]] = [({}, []) for _ in mp4s]
    for annotator in annotators:
        for start in range(0, len(mp4s), annotator.resources.batch):
            chunk = range(start, min(start + annotator.resources.batch, len(mp4s)))
            with gate(), _timed(clock, annotator.name):
                found = _run(annotator, [given[i] if lone else _given(annotator, known[i], seen[i]) for i in chunk])
            for i, one in zip(chunk, found, strict=True):
                if isinstance(one, Failure):
                    results[i][1].append(one)
                    if not one.unmeasurable:
                        continue
                columns = dict.fromkeys(annotator.columns) if isinstance(one, Failure) else one
                stamp = {f"{annotator.name}_fingerprint": expected_fingerprint(annotator, seen[i], made_by)}
                results[i][0].update(columns | stamp)
                seen[i] |= columns | stamp
    return results


@contextmanager
def _timed(clock: Counter[str], name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    clock[name] += time.perf_counter() - began  # type: ignore[assignment]


def expected_fingerprint(annotator: Computes, row: Mapping[str, Any], producers: Mapping[str, str]) -> str:
    """The fingerprint that the annotator's columns have when they are current for this row."""
    sources = {producers[n.column] for n in stored_needs(annotator) if n.column in producers}
    return fingerprint_with(annotator, {name: row.get(f"{name}_fingerprint") for name in sources})


Known = dict[Need, Any] | Exception  # what was read of a clip, or why it could not be read
Given = tuple[Any, ...] | Exception  # what an annotator is given of a clip, or why it cannot be


def _read_needs(mp4: bytes | None, frames: list[Frames], facts: bool) -> Known:
    if not frames and not facts:
        return {}
    try:
        clip_facts, arrays = read(mp4 or b"", frames)
    except Exception as error:  # anything: a decoder must not end the run
        return error
    return {Facts(): clip_facts, **dict(zip(frames, arrays, strict=True))}


def _run(annotator: Annotator, given: Sequence[Given]) -> list[dict[str, Any] | Failure]:
    """A chunk: those that could be read go in one batch."""
    found = iter(_batch(annotator, [one for one in given if not isinstance(one, Exception)]))
    return [_failure(annotator, one) if isinstance(one, Exception) else next(found) for one in given]


def _batch(annotator: Annotator, inputs: Sequence[tuple[Any, ...]]) -> list[dict[str, Any] | Failure]:
    """Where it fails and holds several clips, clip by clip, so that one clip costs only itself."""
    if not inputs:
        return []
    try:
        found = annotator.batch(inputs)
        if len(found) != len(inputs):
            raise ValueError(f"annotator {annotator.name!r} returned {len(found)} rows for {len(inputs)} clips")
    except Postponed as error:
        return [_failure(annotator, error)] * len(inputs)
    except Exception as error:
        if len(inputs) == 1:
            return [_failure(annotator, error)]
        return [one for clip in inputs for one in _batch(annotator, [clip])]
    return [_checked(annotator, columns) for columns in found]


def _given(annotator: Annotator, known: Known, row: Mapping[str, Any]) -> Given:
    def of(need: Need) -> ClipFacts | np.ndarray | Any:
        if isinstance(need, Stored):
            if row.get(need.column) is None and not need.optional:
                raise ValueError(f"annotator {annotator.name!r} needs column {need.column!r}, which the clip lacks")
            return row.get(need.column)
        if isinstance(known, Exception):
            raise known
        return known[need]

    try:
        return annotator.kept(*(of(need) for need in needs_of(annotator)))
    except Exception as error:  # this clip's own
        return error


def _checked(annotator: Annotator, columns: dict[str, Any] | Exception) -> dict[str, Any] | Failure:
    """The columns, or a failure where they are not exactly the declared ones, typed and finite."""
    try:
        if isinstance(columns, Exception):
            raise columns
        if columns.keys() != annotator.columns.keys():
            wrong = sorted(columns.keys() ^ annotator.columns.keys())
            raise ValueError(f"annotator {annotator.name!r} does not write the columns it declares: {', '.join(wrong)}")
        for name, value in columns.items():
            if _is_not_finite(value):
                raise ValueError(f"{name} is {value}")
            pa.scalar(value, annotator.columns[name].type)
    except Exception as error:
        return _failure(annotator, error)
    return columns


def _is_not_finite(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind == "f" and not np.isfinite(value).all()
    return isinstance(value, float | np.floating) and not math.isfinite(value)


def _failure(annotator: Annotator, error: Exception) -> Failure:
    found = failure_of(annotator.name, error, postponed=isinstance(error, Postponed))
    return replace(found, detail="", unmeasurable=True) if isinstance(error, Unmeasurable) else found


def failure_of(annotator: str, error: Exception, *, postponed: bool) -> Failure:
    detail = "".join(traceback.format_exception(error))[-4000:]
    return Failure(annotator, _sentence(error), detail, postponed)


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, Postponed | Unmeasurable) and text:  # a sentence for people
        return text[:500]
    return f"{type(error).__name__}: {text}"[:500] if text else type(error).__name__
