"""Annotating clips: each is decoded once for all annotators, and one annotator's failure is its own."""

from __future__ import annotations

import math
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
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
from reelwright.curation.media.unencoded import Unencoded, read_unencoded


@dataclass(frozen=True)
class Failure:
    """One annotator failed on one clip; the other columns of the clip are not touched.

    Args:
        annotator: its name.
        error: a sentence.
        detail: the end of the traceback.
        postponed: the clip is not to blame, and the next run tries again.
        unmeasurable: no failure: the annotator is done, and its columns are null for the reason in `error`.
    """

    annotator: str
    error: str
    detail: str
    postponed: bool = False
    unmeasurable: bool = False


_Read = dict[Need, Any] | Exception  # the data read of a clip, or the reason why it could not be read
_Inputs = tuple[Any, ...] | Exception  # an annotator's inputs for a clip, or why there are none


@dataclass
class _Clip:
    """A clip under way: its row so far, the data read of its file, and its outcome."""

    row: dict[str, Any]
    read: _Read
    kept: _Inputs | None = None  # of a lone annotator, in place of the data read
    columns: dict[str, Any] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)


def annotate_clip(
    mp4: bytes | Unencoded | None, annotators: Sequence[Annotator], row: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], list[Failure]]:
    """Return columns (with `<name>_fingerprint` for each annotator that is done) and failures of one clip.

    Args:
        mp4: the clip's file, or frames that were never one; None where no annotator reads it.
        annotators: in the order in which they run: columns of earlier ones are visible to later ones.
        row: the clip's other columns, for annotators that need some.
    """
    return annotate_clips([mp4], annotators, [row or {}])[0]


def annotate_clips(
    mp4s: Sequence[bytes | Unencoded | None],
    annotators: Sequence[Annotator],
    rows: Sequence[Mapping[str, Any]] | None = None,
    producers: Mapping[str, str] | None = None,
    *,
    gate: Callable[[], AbstractContextManager[object]] = nullcontext,
    decoder: Callable[[], AbstractContextManager[object]] = nullcontext,
    clock: Counter[str] | None = None,
) -> list[tuple[dict[str, Any], list[Failure]]]:
    """Return `annotate_clip` of several clips.

    All are held at once: their frames, or for a lone annotator the part it keeps (`Annotator.kept`). So pass one batch.

    Args:
        mp4s: the clips' files, or frames that were never one; None where no annotator reads them.
        annotators: as for `annotate_clip`.
        rows: the clips' other columns.
        producers: column -> annotator that made it, for the columns of `rows` (which then hold its fingerprint too).
        gate: entered while an annotator computes.
        decoder: entered while a clip is decoded.
        clock: seconds are added here, by annotator, and the seconds of decoding under "decode".
    """
    clock = Counter() if clock is None else clock
    refuse_shared_columns(annotators)
    made_by = {**(producers or {}), **{column: a.name for a in annotators for column in a.columns}}
    frames = list(dict.fromkeys(n for a in annotators for n in needs_of(a) if isinstance(n, Frames)))
    facts = any(isinstance(n, Facts) for a in annotators for n in needs_of(a))
    clips = []
    for mp4, row in zip(mp4s, rows or [{}] * len(mp4s), strict=True):
        with decoder(), _timed(clock, "decode"):
            clip = _Clip(dict(row), _read_needs(mp4, frames, facts))
            if len(annotators) == 1:
                clip.kept = _inputs(annotators[0], clip)
                clip.read = {}  # frees the frames
        clips.append(clip)
    for annotator in annotators:
        size = annotator.resources.batch
        for start in range(0, len(clips), size):
            batch = clips[start : start + size]
            with gate(), _timed(clock, annotator.name):
                found = _run(annotator, [_inputs(annotator, c) if c.kept is None else c.kept for c in batch])
            for clip, result in zip(batch, found, strict=True):
                _add(annotator, clip, result, made_by)
    return [(clip.columns, clip.failures) for clip in clips]


def _add(annotator: Annotator, clip: _Clip, result: dict[str, Any] | Failure, made_by: Mapping[str, str]) -> None:
    if isinstance(result, Failure):
        clip.failures.append(result)
        if not result.unmeasurable:
            return
        result = dict.fromkeys(annotator.columns)
    fingerprint = {f"{annotator.name}_fingerprint": expected_fingerprint(annotator, clip.row, made_by)}
    clip.columns |= result | fingerprint
    clip.row |= result | fingerprint


@contextmanager
def _timed(clock: Counter[str], name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    clock[name] += time.perf_counter() - began  # type: ignore[assignment]


def expected_fingerprint(annotator: Computes, row: Mapping[str, Any], producers: Mapping[str, str]) -> str:
    """Return the fingerprint that the annotator's columns have when they are current for this row."""
    sources = {producers[n.column] for n in stored_needs(annotator) if n.column in producers}
    return fingerprint_with(annotator, {name: row.get(f"{name}_fingerprint") for name in sources})


def _read_needs(mp4: bytes | Unencoded | None, frames: list[Frames], facts: bool) -> _Read:
    if not frames and not facts:
        return {}
    try:
        clip_facts, arrays = read_unencoded(mp4, frames) if isinstance(mp4, Unencoded) else read(mp4 or b"", frames)
    except Exception as error:  # anything: a decoder must not end the run
        return error
    return {Facts(): clip_facts, **dict(zip(frames, arrays, strict=True))}


def _run(annotator: Annotator, inputs: Sequence[_Inputs]) -> list[dict[str, Any] | Failure]:
    """Run one batch of the clips that have inputs; the others fail with their reason."""
    found = iter(_batch(annotator, [clip for clip in inputs if not isinstance(clip, Exception)]))
    return [_failure(annotator, clip) if isinstance(clip, Exception) else next(found) for clip in inputs]


def _batch(annotator: Annotator, inputs: Sequence[tuple[Any, ...]]) -> list[dict[str, Any] | Failure]:
    """Run a batch; where it fails, run it clip by clip, so that one clip costs only itself."""
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
        return [result for clip in inputs for result in _batch(annotator, [clip])]
    return [_checked(annotator, columns) for columns in found]


def _inputs(annotator: Annotator, clip: _Clip) -> _Inputs:
    def value_of(need: Need) -> ClipFacts | np.ndarray | Any:
        if isinstance(need, Stored):
            if clip.row.get(need.column) is None and not need.optional:
                raise ValueError(f"annotator {annotator.name!r} needs column {need.column!r}, which the clip lacks")
            return clip.row.get(need.column)
        if isinstance(clip.read, Exception):
            raise clip.read
        return clip.read[need]

    try:
        return annotator.kept(*(value_of(need) for need in needs_of(annotator)))
    except Exception as error:  # this clip's own
        return error


def _checked(annotator: Annotator, columns: dict[str, Any] | Exception) -> dict[str, Any] | Failure:
    """Return the columns, or a failure where they are not exactly the declared ones, typed and finite."""
    try:
        if isinstance(columns, Exception):
            raise columns
        if columns.keys() != annotator.columns.keys():
            wrong = sorted(columns.keys() ^ annotator.columns.keys())
            raise ValueError(f"annotator {annotator.name!r} does not write the columns it declares: {', '.join(wrong)}")
        for name, value in columns.items():
            if _is_not_finite(value):
                raise ValueError(f"{name} is {value}")
            if not _is_plain(value, annotator.columns[name].type):
                pa.scalar(value, annotator.columns[name].type)
    except Exception as error:
        return _failure(annotator, error)
    return columns


def _is_plain(value: Any, kind: pa.DataType) -> bool:
    """Return whether Arrow takes a value for sure. To ask it makes the process import pandas, which takes 0.2 s."""
    if value is None:
        return True
    if isinstance(value, float):
        return pa.types.is_float32(kind) or pa.types.is_float64(kind)
    if isinstance(value, bool):
        return pa.types.is_boolean(kind)
    if isinstance(value, int):
        return pa.types.is_int64(kind) and -(2**63) <= value < 2**63
    if isinstance(value, str):
        return pa.types.is_string(kind) and value.isascii()
    return isinstance(value, list) and pa.types.is_list(kind) and all(_is_plain(v, kind.value_type) for v in value)


def _is_not_finite(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind == "f" and not np.isfinite(value).all()
    return isinstance(value, float | np.floating) and not math.isfinite(value)


def _failure(annotator: Annotator, error: Exception) -> Failure:
    found = failure_of(annotator.name, error, postponed=isinstance(error, Postponed))
    return replace(found, detail="", unmeasurable=True) if isinstance(error, Unmeasurable) else found


def failure_of(annotator: str, error: Exception, *, postponed: bool) -> Failure:
    """Return the failure that an exception is: its sentence, and the last 4000 characters of its traceback."""
    detail = "".join(traceback.format_exception(error))[-4000:]
    return Failure(annotator, _sentence(error), detail, postponed)


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, Postponed | Unmeasurable) and text:  # a sentence for people
        return text[:500]
    return f"{type(error).__name__}: {text}"[:500] if text else type(error).__name__
