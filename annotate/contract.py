"""What an annotator is: the columns it makes, what it needs for them, and the fingerprint of all that decides them."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import pyarrow as pa

from reelwright.curation.media.frames import Frames


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
class Stored:
    """Need: the clip's value of a column of `clips`, such as another annotator's; or `source_caption`, the caption
    that the source came with.

    A clip waits until the column is filled, and is annotated anew when its value is. optional: None will do.
    """

    column: str
    optional: bool = False


Need = Frames | Facts | Stored


@dataclass(frozen=True)
class Resources:
    """What one running annotator occupies, and how it is fed.

    batch: clips a call. processes: at most so many of them, sharing the work (0: by the size of the cluster).
    own_process: it keeps an actor of its own instead of sharing one decode with the others; for
    models too large to be loaded in every worker, and for those that wait for a server. calls: calls in flight in that
    process at once; more than 1 wants thread-safe code.
    """

    cpus: float = 1
    gpus: float = 0
    batch: int = 1
    own_process: bool = False
    calls: int = 1
    processes: int = 0


class Postponed(Exception):
    """A clip is left for a later run, through no fault of its own: a server is away, a limit on cost is reached.

    Raised by an annotator for all clips of a call, or returned for some; no row in `failures`, and the run hands that
    annotator no more clips.
    """


class Unmeasurable(Exception):
    """Raised for a clip in which there is nothing to measure, such as a picture too flat for the method: its columns
    are null, and current. The sentence that it is raised with says why in `failures`, under `kind` unmeasurable."""


class Partly(Exception):
    """Raised by an annotator of sets that did a part of its work: `raise Partly(columns, state) from why`.

    What it did is stored, without a fingerprint that would call it current; why is the failure, or `Postponed`.
    """

    def __init__(self, columns: Mapping[str, Any], state: Any) -> None:
        super().__init__("a part is done")
        self.columns, self.state = columns, state


def runtime(default: Any, **more: Any) -> Any:
    """A parameter that decides how values are made and not which: left out of the fingerprint."""
    return field(default=default, metadata={"runtime": True}, **more)


@dataclass(frozen=True)
class Computes(ABC):
    """What annotators of clips and of sets have in common. Parameters, if any, are fields: a subclass with some is a
    frozen dataclass too.

    A model is a `functools.cached_property`: loaded on first use, left behind when the annotator is pickled. `models`
    names what is loaded (id and content hash), because the fingerprint must change with it.
    """

    name: ClassVar[str]
    version: ClassVar[int]

    @property
    @abstractmethod
    def columns(self) -> Mapping[str, Column]:
        """The columns it writes; a class attribute will do."""

    @property
    @abstractmethod
    def needs(self) -> Need | tuple[Need, ...]:
        """What `__call__` is given, one positional argument a need; a class attribute will do."""

    @property
    def resources(self) -> Resources:
        """A class attribute will do."""
        return Resources()

    @property
    def models(self) -> tuple[str, ...]:
        return ()

    @property
    def keys(self) -> tuple[str, ...]:
        """Environment variables that hold keys it needs: read where a run is started, and lent to its own process."""
        return ()

    @property
    def parameters(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over all that makes a value, the same on every machine."""
        parts = {
            "name": self.name,
            "version": self.version,
            "parameters": _deciding(self),
            "needs": [[type(need).__name__, _stated(need)] for need in needs_of(self)],
            "models": self.models,
        }
        return _digest(json.dumps(parts, sort_keys=True, ensure_ascii=True, default=str))

    def __getstate__(self) -> dict[str, Any]:
        return self.parameters


class Annotator(Computes):
    """Computes columns of a clip."""

    @abstractmethod
    def __call__(self, *inputs: Any) -> dict[str, Any]:
        """One value for each declared column, of one clip."""

    kept_share: ClassVar[float] = 1.0
    """Bytes that `kept` leaves of a clip's frames, all that is made of it counted; batches are filled by it."""

    def kept(self, *inputs: Any) -> tuple:
        """What of a clip's inputs waits for its batch, called as soon as they are read: override where that can be much
        smaller than frames. `batch` is given it."""
        return inputs

    def prepare(self) -> None:
        """Load or open what it needs: called once in a process of its own, before several threads ask at once. What it
        raises leaves the clips for another run."""

    def shared_by(self, processes: int) -> Self:
        """As one of so many processes that work side by side: with its share of what is limited."""
        return self

    def batch(self, clips: Sequence[tuple]) -> Sequence[dict[str, Any] | Exception]:
        """Several clips at once, at most `resources.batch`: override where a model gains by it.

        An exception in place of a clip's columns is that clip's failure; a raised one sends every clip through alone,
        but for Postponed.
        """
        return [self(*inputs) for inputs in clips]


class SetAnnotator(Computes):
    """Computes columns of clips from all of them at once: clusters, densities, groups. Its needs are all `Stored`.

    Runs anew over everything when a clip comes or goes, or one of its inputs changes.
    """

    @abstractmethod
    def __call__(self, clips: pa.Table, state: Any) -> tuple[Mapping[str, Any], Any]:
        """clips: `clip_id` and the needed columns, of the clips that have them, in order of clip_id. state: what the
        last call with this fingerprint returned (JSON-like), or None.

        Returns a sequence or Arrow array for each declared column, in the order of `clips`, and the new state; or
        raises Partly with both.
        """


def needs_of(annotator: Computes) -> tuple[Need, ...]:
    needs = annotator.needs
    return needs if isinstance(needs, tuple) else (needs,)


def stored_needs(annotator: Computes) -> tuple[Stored, ...]:
    """The columns of the clip that it reads."""
    return tuple(need for need in needs_of(annotator) if isinstance(need, Stored))


def schema_of(annotator: Computes) -> pa.Schema:
    """Its columns and the fingerprint column that says which code, parameters, model and inputs made them."""
    fingerprint = Column(pa.string(), f"code, parameters, model and inputs that made the {annotator.name} columns")
    columns = {**annotator.columns, f"{annotator.name}_fingerprint": fingerprint}
    return pa.schema([column.field(name, annotator.name) for name, column in columns.items()])


def fingerprint_with(annotator: Computes, inputs: Mapping[str, str | None]) -> str:
    """The fingerprint of a value made from other annotators' values: inputs maps their names to their fingerprints."""
    return _digest(json.dumps([annotator.fingerprint, sorted(inputs.items())])) if inputs else annotator.fingerprint


def digest_of(rows: pa.Table) -> str:
    """16 hex digits over a table of strings, in its order."""
    digest = hashlib.sha256()
    for column in rows.columns:
        ends = pa.array([""], pa.large_string())
        texts = pa.concat_arrays([*column.cast(pa.large_string()).fill_null("").chunks, ends])
        _, offsets, characters = texts.buffers()  # of an array of its own: it begins at 0
        digest.update(memoryview(offsets)[: 8 * (len(texts) + 1)])
        digest.update(memoryview(characters or b""))
    return digest.hexdigest()[:16]


def refuse_shared_columns(annotators: Sequence[Computes]) -> None:
    """Raise ValueError when two annotators write the same column: the order of a run would decide its value."""
    owner: dict[str, str] = {}
    for annotator in annotators:
        for column in schema_of(annotator).names:
            if column in owner:
                raise ValueError(f"annotators {owner[column]!r} and {annotator.name!r} both write column {column!r}")
            owner[column] = annotator.name


def _stated(need: Need) -> dict[str, Any]:
    """Its fields, without those that came later and are not set: values that were made before stay current."""
    later = {"least": None, "most": None, "every_line": False}
    return {name: value for name, value in asdict(need).items() if name not in later or value != later[name]}


def _deciding(thing: Any) -> Any:
    """The parameters of a dataclass, nested ones too, without those of `runtime`."""
    if not is_dataclass(thing) or isinstance(thing, type):
        return thing
    return {f.name: _deciding(getattr(thing, f.name)) for f in fields(thing) if not f.metadata.get("runtime")}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
