"""What an annotator is, and how a clip is annotated: decoded once for all, and one annotator's failure is its own."""

from __future__ import annotations

import hashlib
import json
import math
import traceback
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from curation.media.frames import ClipFacts, Frames, read


@dataclass(frozen=True)
class Column:
    """A column that an annotator writes."""

    type: pa.DataType
    meaning: str
    unit: str = ""

    def field(self, name: str, computed_by: str) -> pa.Field:
        """The Arrow field, nullable (a clip may not be annotated yet), described as the store describes its columns."""
        about = {"unit": self.unit, "meaning": self.meaning, "computed_by": computed_by}
        return pa.field(name, self.type, metadata={k: v for k, v in about.items() if v})


@dataclass(frozen=True)
class Facts:
    """Need: what the clip's container says (`ClipFacts`); costs no decoding."""


@dataclass(frozen=True)
class TextColumn:
    """Need: the value of another column of the clip, made by an annotator that ran before."""

    column: str


Need = Frames | Facts | TextColumn


@dataclass(frozen=True)
class Resources:
    """What one running annotator occupies, and how many clips it takes at a time."""

    cpus: float = 1
    gpus: float = 0
    batch: int = 1


@dataclass(frozen=True)
class Failure:
    """One annotator failed on one clip; the other columns of the clip are not touched."""

    annotator: str
    error: str
    detail: str


@dataclass(frozen=True)
class Annotator(ABC):
    """Computes columns of a clip. Parameters, if any, are fields: a subclass with some is a frozen dataclass too.

    A model is a `functools.cached_property`: loaded on first use, left behind when the annotator is pickled. `models`
    names what was loaded (id and content hash), because the fingerprint must change with it.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    resources: ClassVar[Resources] = Resources()

    @property
    @abstractmethod
    def columns(self) -> Mapping[str, Column]:
        """The columns it writes; a class attribute will do."""

    @property
    @abstractmethod
    def needs(self) -> Need | tuple[Need, ...]:
        """What `__call__` is given, one positional argument a need; a class attribute will do."""

    @property
    def models(self) -> tuple[str, ...]:
        return ()

    @abstractmethod
    def __call__(self, *inputs: Any) -> dict[str, Any]:
        """One value for each declared column, of one clip."""

    def batch(self, clips: Sequence[tuple]) -> list[dict[str, Any]]:
        """Several clips at once, at most `resources.batch`: override where a model gains by it."""
        return [self(*inputs) for inputs in clips]

    @property
    def parameters(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over all that makes a value, the same on every machine."""
        parts = {
            "name": self.name,
            "version": self.version,
            "parameters": asdict(self),
            "needs": [[type(need).__name__, asdict(need)] for need in needs_of(self)],
            "models": self.models,
        }
        text = json.dumps(parts, sort_keys=True, ensure_ascii=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def __getstate__(self) -> dict[str, Any]:
        return self.parameters


def needs_of(annotator: Annotator) -> tuple[Need, ...]:
    needs = annotator.needs
    return needs if isinstance(needs, tuple) else (needs,)


def schema_of(annotator: Annotator) -> pa.Schema:
    """Its columns and the fingerprint column that says which code, parameters and model made them."""
    fingerprint = Column(pa.string(), f"code, parameters and model that made the {annotator.name} columns")
    columns = {**annotator.columns, f"{annotator.name}_fingerprint": fingerprint}
    return pa.schema([column.field(name, annotator.name) for name, column in columns.items()])


def annotate_clip(
    mp4: bytes, annotators: Sequence[Annotator], row: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], list[Failure]]:
    """Columns (with `<name>_fingerprint` for each annotator that succeeded) and failures of one clip.

    row: the clip's other columns, for annotators that need a text column; columns of annotators earlier in the list
        are visible to later ones.
    """
    return annotate_clips([mp4], annotators, [row or {}])[0]


def annotate_clips(
    mp4s: Sequence[bytes], annotators: Sequence[Annotator], rows: Sequence[Mapping[str, Any]] | None = None
) -> list[tuple[dict[str, Any], list[Failure]]]:
    """`annotate_clip` of several: all their sampled frames are held at once, so keep it to a batch."""
    refuse_shared_columns(annotators)
    frames = list(dict.fromkeys(n for a in annotators for n in needs_of(a) if isinstance(n, Frames)))
    facts = any(isinstance(n, Facts) for a in annotators for n in needs_of(a))
    known = [_read_needs(mp4, frames, facts) for mp4 in mp4s]
    results: list[tuple[dict[str, Any], list[Failure]]] = [({}, []) for _ in mp4s]
    for annotator in annotators:
        for start in range(0, len(mp4s), annotator.resources.batch):
            chunk = range(start, min(start + annotator.resources.batch, len(mp4s)))
            seen = [{**(rows[i] if rows else {}), **results[i][0]} for i in chunk]
            found = _run(annotator, [known[i] for i in chunk], seen)
            for i, columns in zip(chunk, found, strict=True):
                if isinstance(columns, Failure):
                    results[i][1].append(columns)
                else:
                    results[i][0].update(columns)
    return results


def refuse_shared_columns(annotators: Sequence[Annotator]) -> None:
    """Raise ValueError when two annotators write the same column: the order of a run would decide its value."""
    owner: dict[str, str] = {}
    for annotator in annotators:
        for column in schema_of(annotator).names:
            if column in owner:
                raise ValueError(f"annotators {owner[column]!r} and {annotator.name!r} both write column {column!r}")
            owner[column] = annotator.name


Known = dict[Need, Any] | Exception  # what was read of a clip, or why it could not be read


def _read_needs(mp4: bytes, frames: list[Frames], facts: bool) -> Known:
    if not frames and not facts:
        return {}
    try:
        clip_facts, arrays = read(mp4, frames)
    except Exception as error:  # anything: a decoder must not end the run
        return error
    return {Facts(): clip_facts, **dict(zip(frames, arrays, strict=True))}


def _run(
    annotator: Annotator, known: Sequence[Known], rows: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any] | Failure]:
    """A batch; where it fails and holds several clips, clip by clip, so that one clip costs only itself."""
    try:
        inputs = [_inputs(annotator, k, r) for k, r in zip(known, rows, strict=True)]
        found = annotator.batch(inputs)
        if len(found) != len(inputs):
            raise ValueError(f"annotator {annotator.name!r} returned {len(found)} rows for {len(inputs)} clips")
        return [_checked(annotator, columns) for columns in found]
    except Exception as error:
        if len(known) == 1:
            return [Failure(annotator.name, _sentence(error), "".join(traceback.format_exception(error))[-4000:])]
        return [one for k, r in zip(known, rows, strict=True) for one in _run(annotator, [k], [r])]


def _inputs(annotator: Annotator, known: Known, row: Mapping[str, Any]) -> tuple[Any, ...]:
    def of(need: Need) -> ClipFacts | np.ndarray | Any:
        if isinstance(need, TextColumn):
            if row.get(need.column) is None:
                raise ValueError(f"annotator {annotator.name!r} needs column {need.column!r}, which the clip lacks")
            return row[need.column]
        if isinstance(known, Exception):
            raise known
        return known[need]

    return tuple(of(need) for need in needs_of(annotator))


def _checked(annotator: Annotator, columns: dict[str, Any]) -> dict[str, Any]:
    """The columns with their fingerprint; raises where they are not exactly the declared ones, typed and finite."""
    if columns.keys() != annotator.columns.keys():
        wrong = sorted(columns.keys() ^ annotator.columns.keys())
        raise ValueError(f"annotator {annotator.name!r} does not write the columns it declares: {', '.join(wrong)}")
    for name, value in columns.items():
        if isinstance(value, float | np.floating) and not math.isfinite(value):
            raise ValueError(f"{name} is {value}")
        pa.scalar(value, annotator.columns[name].type)
    return {**columns, f"{annotator.name}_fingerprint": annotator.fingerprint}


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:500] if text else type(error).__name__
