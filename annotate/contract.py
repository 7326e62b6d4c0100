"""The contract of an annotator: its columns, its inputs, and the fingerprint of all that decides the values."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelwright.annotate.set_reader import ClipReader, TableReader
from reelwright.curation.media.frames import Frames


@dataclass(frozen=True)
class Column:
    """A column that an annotator writes."""

    type: pa.DataType
    meaning: str
    unit: str = ""

    def field(self, name: str, computed_by: str) -> pa.Field:
        """Return the Arrow field, nullable (a clip may not be annotated yet), described as the store's columns are."""
        metadata = {"unit": self.unit, "meaning": self.meaning, "computed_by": computed_by}
        return pa.field(name, self.type, metadata={k: v for k, v in metadata.items() if v})


@dataclass(frozen=True)
class Facts:
    """Need: the facts of the clip's container (`ClipFacts`); costs no decoding."""


@dataclass(frozen=True)
class Stored:
    """Need: the clip's value of a column of `clips`, such as another annotator's.

    A clip waits until the column is filled, and is annotated again when its value changes.

    Args:
        column: its name, or `source_caption`, the caption that the source came with.
        optional: the clip does not wait; None is a value too.
    """

    column: str
    optional: bool = False


Need = Frames | Facts | Stored


@dataclass(frozen=True)
class Resources:
    """The resources of one running annotator, and how it is fed.

    Args:
        cpus: of its process.
        gpus: of its process.
        batch: clips per call.
        own_process: it keeps an actor of its own instead of sharing one decode with the others; for models too large
            to be loaded in every worker, and for annotators that wait for a server.
        calls: calls in flight at once in that process; more than 1 needs thread-safe code.
        processes: the most of them that share the work; 0: by the size of the cluster.
    """

    cpus: float = 1
    gpus: float = 0
    batch: int = 1
    own_process: bool = False
    calls: int = 1
    processes: int = 0


class Postponed(Exception):
    """A clip is left for a later run, through no fault of its own: a server is away, a limit on cost is reached.

    Raise it for all clips of a call, or return it for some. There is no row in `failures`, and the run hands that
    annotator no more clips.
    """


class Unmeasurable(Exception):
    """A clip has nothing to measure, such as a picture too flat for the method.

    Its columns are null, and current; the exception's sentence is in `failures`, under `kind` unmeasurable.
    """


class PartialResult(Exception):
    """An annotator of sets did a part of its work: `raise PartialResult(columns, state) from why`.

    The part is stored, without a fingerprint that would call it current; `why` is the failure, or `Postponed`. Its
    columns and state are what the annotator would return.
    """

    def __init__(self, columns: Any, state: Any) -> None:
        super().__init__("a part is done")
        self.columns = columns
        self.state = state


def runtime(default: Any, **more: Any) -> Any:
    """Declare a parameter that decides how values are made and not which: it is left out of the fingerprint."""
    return field(default=default, metadata={"runtime": True}, **more)


@dataclass(frozen=True)
class Configured(ABC):
    """The common part of whatever computes values by parameters and models: annotators, and rewards of training.

    Parameters are fields: a subclass with some is a frozen dataclass too. A model is a `functools.cached_property`,
    loaded on first use and left behind when the object is pickled. `models` names the loaded models (id and content
    hash), because the fingerprint must change with it.
    """

    name: ClassVar[str]
    version: ClassVar[int]

    @property
    def resources(self) -> Resources:
        """Resources that it occupies. May be a class attribute."""
        return Resources()

    @property
    def models(self) -> tuple[str, ...]:
        """Ids and content hashes of the models and texts that decide its values. May be a class attribute."""
        return ()

    @property
    def keys(self) -> tuple[str, ...]:
        """Environment variables that hold the keys it needs: read where a run starts, and set in its own process."""
        return ()

    @property
    def parameters(self) -> dict[str, Any]:
        """Name -> value of its fields."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def __getstate__(self) -> dict[str, Any]:
        return self.parameters


@dataclass(frozen=True)
class Computes(Configured):
    """The common part of annotators of clips and of sets."""

    profiles: ClassVar[tuple[str, ...]] = ()
    """Profiles of recipes that it belongs to: "cpu" needs no download and no GPU, "full" asks models as well."""
    profile_parameters: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Profile -> parameters that differ there from the defaults; a recipe's own go over them."""
    typical_s: ClassVar[float | None] = None
    """Worker seconds per clip, as measured on a corpus; plans use it until the store has runs of its own."""
    typical_tokens: ClassVar[tuple[int, int] | None] = None
    """Tokens in and out per clip of 5 s, of one that asks a model; not measured, but reckoned from 784 pixels per token
    (Qwen2.5-VL) at the default sampling."""

    @property
    @abstractmethod
    def columns(self) -> Mapping[str, Column]:
        """The columns that it writes. May be a class attribute."""

    @property
    @abstractmethod
    def needs(self) -> Need | tuple[Need, ...]:
        """The inputs of `__call__`, one positional argument per need. May be a class attribute."""

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over everything that decides a value, the same on every machine."""
        parts = {
            "name": self.name,
            "version": self.version,
            "parameters": deciding(self),
            "needs": [[type(need).__name__, _stated(need)] for need in needs_of(self)],
            "models": self.models,
        }
        return _digest(json.dumps(parts, sort_keys=True, ensure_ascii=True, default=str))


class Annotator(Computes):
    """Computes columns of a clip."""

    @abstractmethod
    def __call__(self, *inputs: Any) -> dict[str, Any]:
        """Return one value for each declared column, of one clip."""

    kept_share: ClassVar[float] = 1.0
    """Memory of `kept` and its results as a share of the bytes of a clip's frames; batches are filled by it."""

    def kept(self, *inputs: Any) -> tuple:
        """Return the part of a clip's inputs that waits for its batch; `batch` is given it.

        It is called as soon as they are read: override it where the part can be much smaller than frames.
        """
        return inputs

    def prepare(self) -> None:
        """Load or open its models and connections: called once per process, before several threads ask at once.

        An exception leaves the clips for another run.
        """

    def per_process(self, processes: int) -> Self:
        """Return the annotator for one of `processes` that work side by side: with its share of the limits."""
        return self

    def batch(self, clips: Sequence[tuple]) -> Sequence[dict[str, Any] | Exception]:
        """Return the columns of several clips, at most `resources.batch`: override it where a model gains by it.

        An exception in place of a clip's columns is that clip's failure. A raised one, other than Postponed, sends each
        clip through alone.
        """
        return [self(*inputs) for inputs in clips]


Steps = Generator[Any, None, tuple[Iterable[Mapping[str, Any]], Any]]
"""States on the way, and at its end what `SetAnnotator.stream` returns."""


class SetAnnotator(Computes):
    """Computes columns of clips from all of them at once: clusters, densities, groups. Its needs are all `Stored`.

    It runs again over everything when a clip comes or goes, or one of its inputs changes. This form holds its columns
    of all clips in memory; `StreamedSetAnnotator` reads them in batches.
    """

    @abstractmethod
    def __call__(self, clips: pa.Table, state: Any) -> tuple[Mapping[str, Any], Any]:
        """Compute the columns of all clips.

        Args:
            clips: `clip_id` and the needed columns, of the clips that have them, in order of clip_id.
            state: the state that the last call with this fingerprint returned (JSON-like), or None.

        Returns:
            A sequence or Arrow array for each declared column, in the order of `clips`; and the new state.

        Raises:
            PartialResult: with both, where only a part was done.
        """

    def stream(self, clips: ClipReader, state: Any) -> tuple[Iterable[Mapping[str, Any]], Any]:
        """Compute the columns of all clips, batch by batch.

        Args:
            clips: the needed columns, of the clips that have them.
            state: as above.

        Returns:
            The columns of each of `clips.batches()`, in its order, computed as they are asked for; and the new state.
            Where a batch's columns depend on it alone, return a `PerBatch`: workers then share the batches.

        Raises:
            PartialResult: with both, where only a part was done.
        """
        batches = list(clips.batches())
        whole = pa.concat_tables(batches)
        order = pc.sort_indices(whole["clip_id"]).to_numpy()
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        sizes = [len(batch) for batch in batches]
        try:
            found, state = self(whole.take(pa.array(order)), state)
        except PartialResult as part:
            raise PartialResult(self._cut(part.columns, back, sizes), part.state) from part.__cause__
        return self._cut(found, back, sizes), state

    def steps(self, clips: ClipReader, state: Any) -> Steps:
        """Compute as `stream` does, and yield states on the way from which another call could go on.

        Where a worker is lost, the next one is given the last of them. Override it where work is dear.
        """
        yield from ()
        return self.stream(clips, state)

    def _cut(self, found: Mapping[str, Any], back: np.ndarray, sizes: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Cut columns in order of clip_id into batches of so many clips; back: place of each clip in that order."""
        self.refuse_others(found)
        columns = {name: pa.array(found[name], kind.type).take(pa.array(back)) for name, kind in self.columns.items()}
        for start, size in zip(np.cumsum([0, *sizes]).tolist(), sizes, strict=False):
            yield {name: column.slice(start, size) for name, column in columns.items()}

    def refuse_others(self, found: Mapping[str, Any]) -> None:
        """Raise ValueError unless `found` has exactly the columns that are declared."""
        if set(found) != set(self.columns):
            raise ValueError(
                f"annotator {self.name!r} does not write the columns it declares: {', '.join(sorted(found))}"
            )


class StreamedSetAnnotator(SetAnnotator):
    """An annotator of sets that reads its clips in batches, so that no set is too large for a worker."""

    @abstractmethod
    def stream(self, clips: ClipReader, state: Any) -> tuple[Iterable[Mapping[str, Any]], Any]:
        """Compute the columns of all clips, batch by batch; see `SetAnnotator.stream`."""

    def __call__(self, clips: pa.Table, state: Any) -> tuple[Mapping[str, Any], Any]:
        """Compute the columns of a table of clips, in whatever order it has."""
        try:
            found, state = self.stream(TableReader(clips), state)
        except PartialResult as part:
            raise PartialResult(self._joined(part.columns), part.state) from part.__cause__
        return self._joined(found), state

    def _joined(self, batches: Any) -> dict[str, pa.Array]:
        parts = list(batches)
        return {
            name: pa.concat_arrays([pa.array(part[name], column.type) for part in parts])
            for name, column in self.columns.items()
        }


def result_of(steps: Steps) -> tuple[Iterable[Mapping[str, Any]], Any]:
    """Return what the steps end with."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def needs_of(annotator: Computes) -> tuple[Need, ...]:
    """Return its needs, also a lone one, as a tuple."""
    needs = annotator.needs
    return needs if isinstance(needs, tuple) else (needs,)


def reads_video(annotator: Computes) -> bool:
    """Return whether it needs the clip's file: frames, or facts of its container."""
    return any(isinstance(need, Frames | Facts) for need in needs_of(annotator))


def stored_needs(annotator: Computes) -> tuple[Stored, ...]:
    """Return the needs that are columns of the clip."""
    return tuple(need for need in needs_of(annotator) if isinstance(need, Stored))


def schema_of(annotator: Computes) -> pa.Schema:
    """Return its columns and their fingerprint column, as Arrow fields of the table `clips`."""
    fingerprint = Column(pa.string(), f"code, parameters, model and inputs that made the {annotator.name} columns")
    columns = {**annotator.columns, f"{annotator.name}_fingerprint": fingerprint}
    return pa.schema([column.field(name, annotator.name) for name, column in columns.items()])


def fingerprint_with(annotator: Computes, inputs: Mapping[str, str | None]) -> str:
    """Return the fingerprint of a value made from other annotators' values.

    Args:
        annotator: the annotator that makes it.
        inputs: name of each other annotator -> fingerprint of its value.
    """
    return _digest(json.dumps([annotator.fingerprint, sorted(inputs.items())])) if inputs else annotator.fingerprint


def refuse_shared_columns(annotators: Sequence[Computes]) -> None:
    """Raise ValueError when two annotators write the same column: the order of a run would decide its value."""
    owner: dict[str, str] = {}
    for annotator in annotators:
        for column in schema_of(annotator).names:
            if column in owner:
                raise ValueError(f"annotators {owner[column]!r} and {annotator.name!r} both write column {column!r}")
            owner[column] = annotator.name


def deciding(thing: Any) -> Any:
    """Return the parameters of a dataclass, nested ones too, without the `runtime` ones."""
    if not is_dataclass(thing) or isinstance(thing, type):
        return thing
    return {f.name: deciding(getattr(thing, f.name)) for f in fields(thing) if not f.metadata.get("runtime")}


def _stated(need: Need) -> dict[str, Any]:
    """Return its fields, without later additions that are not set: values made before them stay current."""
    later = {"least": None, "most": None, "every_line": False}
    return {name: value for name, value in asdict(need).items() if name not in later or value != later[name]}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
