"""Annotators that look at all clips at once: whether they must run again, and running them on workers.

One worker reads the set in batches, as its annotator asks for them, and sends results back in pieces; where each batch
has its columns by itself, tasks share what is left of a large set (`set_tasks.py`). This process lays the pieces down
in a file and merges them once the last has come: nobody holds the columns of all clips, and a worker that is lost
leaves the set as it was. Another one then begins with the state to which the lost one had come, if its annotator tells
(`SetAnnotator.steps`). Ray does not retry the worker: it would take a second attempt's pieces for the first's.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import chain
from typing import IO, Any, Self, TypeAlias

import pyarrow as pa

from reelwright.annotate import Computes, PartialResult, PerBatch, Postponed, SetAnnotator, load
from reelwright.annotate.chat.registry import close_chats, take_usage
from reelwright.annotate.contract import Steps
from reelwright.annotate.keys import Keys, keys_in_environment
from reelwright.annotate.run import failure_of
from reelwright.annotate.set_reader import rebatched
from reelwright.curation.credentials import use
from reelwright.curation.store import Store
from reelwright.curation.usage import Lap
from reelwright.pipelines.annotate.lanes import need_of
from reelwright.pipelines.annotate.set_members import MemberReader, Members
from reelwright.pipelines.annotate.set_tasks import (
    STRETCH_CLIPS,
    SharedWork,
    StretchFailed,
    by_tasks,
    laid_out,
    rows_schema,
)  # fmt: skip
from reelwright.pipelines.recipes.curation import CurateRecipe
from reelwright.pipelines.runtime.meter import Meter, Stage

Usage = Mapping[str, Mapping[str, float]]  # annotator -> tokens and USD
MERGED_CLIPS = 262_144  # results merged together: four fragments
PIECES_AHEAD = 2  # results computed before earlier ones are laid down


@dataclass(frozen=True)
class SetStaleness:
    """expected: the fingerprint of a current value; it covers the clips of the set and the values read of them.

    clips: the members of the set: clips that have all columns it needs. waiting: the other clips.
    """

    expected: str
    clips: int
    waiting: int
    stale: int
    failed: bool

    @property
    def is_current(self) -> bool:
        """Whether it need not run: it is up to date, or failed and is not to be retried."""
        return not self.stale or self.failed


@dataclass(frozen=True)
class SetOutcome:
    """clips that are done. seconds on workers; error and detail where it failed, in whole or in part.

    took: by its worker, without tasks; None where it was lost.
    """

    clips: int
    seconds: float
    usage: Usage = field(default_factory=dict)
    error: str = ""
    detail: str = ""
    postponed: bool = False
    took: Lap | None = None


@dataclass(frozen=True)
class _OnTheWay:
    """A state from which another worker can go on, as JSON, and the usage since the last."""

    state: str
    usage: Usage


@dataclass(frozen=True)
class _End:
    """What a worker says last.

    The new state as JSON, the usage, the error that kept it from finishing, if any, what it took, and what it leaves to
    tasks.
    """

    state: str
    usage: Usage
    problem: Exception | None
    took: Lap
    left: SharedWork | None = None


_Piece: TypeAlias = pa.Table | _OnTheWay | _End


def set_staleness(store: Store, annotator: SetAnnotator, *, retry_failed: bool = False) -> SetStaleness:
    """Compare the fingerprint of the set's members with the stored one; reads ids and fingerprints alone."""
    members = Members(store, annotator)
    expected, current = members.fingerprint, members.prints[members.fingerprint]
    return SetStaleness(
        expected, members.count, store.count("clips") - members.count, members.count - current,
        not retry_failed and _has_failed(store, annotator.name, expected),
    )  # fmt: skip


def run_set(
    store: Store,
    recipe: CurateRecipe,
    annotator: SetAnnotator,
    keys: Keys,
    merged: Callable[[int], None] = lambda clips: None,
    stages: defaultdict[str, Stage] | None = None,
) -> SetOutcome:
    """Run one on a worker, and on tasks what it leaves to them, and commit its results. Its failures are not raised.

    Args:
        store: the store.
        recipe: it names the annotator's parameters, its worker's needs, and the tries again after a lost worker.
        annotator: one of the recipe's.
        keys: that it needs.
        merged: called with the clips whose results are in the store so far.
        stages: what tasks took is counted there, by the annotator's name.
    """
    import ray

    name, need, params = annotator.name, need_of(annotator, recipe), dict(recipe.annotator_params())[annotator.name]
    remote: Any = ray.remote(_on_worker).options(
        num_cpus=need.cpus, num_gpus=need.gpus, max_retries=0, name=f"reel:{name}", num_returns="streaming",
        _generator_backpressure_num_objects=PIECES_AHEAD,
    )  # fmt: skip
    clock = _Clock(defaultdict(Stage) if stages is None else stages, name)
    version = store.dataset("clips").version
    clips = 0

    def pieces(state: str) -> Iterator[_Piece]:
        given = (store.uri, version, name, dict(params), keys, state, STRETCH_CLIPS)
        return (ray.get(piece) for piece in remote.remote(dict(recipe.credentials), given))

    with (
        tempfile.TemporaryFile(prefix="reel-set-") as spool,
        _Saved(store, annotator, recipe.batches.commit_s) as saved,
    ):
        try:
            end = _from_some_worker(pieces, recipe.limits.attempts, spool, saved)
            if end.left:
                with clock.tasks() as counted:
                    _laid_down(by_tasks(end.left, need, recipe, counted), spool)
        except StretchFailed as error:
            why = error.why
            used = saved.used(end.usage)
            return SetOutcome(0, clock.seconds, used, why.message, why.detail, why.postponed, end.took)
        except ray.exceptions.RayError as error:
            return _failed(name, getattr(error, "cause", error), str(error), clock.seconds, saved.used())
        for table in _unspooled(spool):  # a set of which a part is another fit's is none
            store.merge("clips", table, on="clip_id")
            clips += table.num_rows
            merged(clips)
        saved.end(end.state)
    if end.problem:
        failed = _failed(name, end.problem, str(end.problem), clock.seconds, saved.used(end.usage))
        return replace(failed, took=end.took)
    return SetOutcome(clips, clock.seconds, saved.used(end.usage), took=end.took)


class _Clock:
    """Seconds of a set on workers: of this process, which waits for one, and of tasks in place of the wait for them.

    Args:
        stages: in which tasks are counted.
        name: under which they are.
    """

    def __init__(self, stages: defaultdict[str, Stage], name: str) -> None:
        self._stages, self._name = stages, name
        self._began, self._more = time.monotonic(), 0.0

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return time.monotonic() - self._began + self._more

    @contextmanager
    def tasks(self) -> Iterator[defaultdict[str, Stage]]:
        """Yield the stages, to count tasks in; the block is the wait for them."""
        began, before = time.monotonic(), self._stages[self._name].seconds
        try:
            yield self._stages
        finally:
            self._more += self._stages[self._name].seconds - before - (time.monotonic() - began)


class _Saved:
    """The newest state of a set: the next worker's where one is lost, and the next run's where this one ends early.

    As a context manager it saves a state that is not in the store yet, however the context ends.
    """

    def __init__(self, store: Store, annotator: Computes, every_s: float) -> None:
        self._store, self._annotator, self._every_s = store, annotator, every_s
        self._usage: Counter[str] = Counter()
        self._is_new = False
        self._at = time.monotonic()
        self.state = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_new:
            self._save()

    def note(self, way: _OnTheWay) -> None:
        """Take the state of a worker that goes on."""
        self.state, self._is_new = way.state, True
        self._add(way.usage)
        if time.monotonic() - self._at >= self._every_s:
            self._save()

    def end(self, state: str) -> None:
        """Save the last state."""
        self.state = state
        self._save()

    def used(self, last: Usage | None = None) -> Usage:
        """Return the usage of all workers; last: of the last, since what it told before."""
        self._add(last or {})
        return {self._annotator.name: dict(self._usage)} if self._usage else {}

    def _add(self, usage: Usage) -> None:
        self._usage.update(usage.get(self._annotator.name, {}))

    def _save(self) -> None:
        _save_state(self._store, self._annotator, self.state)
        self._is_new, self._at = False, time.monotonic()


def _from_some_worker(
    pieces: Callable[[str], Iterable[_Piece]], attempts: int, spool: IO[bytes], saved: _Saved
) -> _End:
    """Lay down what a worker computes; where it is lost, what another does from its last state. pieces: of a state."""
    from ray.exceptions import NodeDiedError, ObjectLostError, OutOfMemoryError, WorkerCrashedError

    for left in range(attempts, -1, -1):
        spool.seek(0)
        spool.truncate()
        try:
            return _spooled(pieces(saved.state), spool, saved.note)
        except (NodeDiedError, ObjectLostError, OutOfMemoryError, WorkerCrashedError):
            if not left:
                raise
    raise AssertionError("unreachable")


def _spooled(pieces: Iterable[_Piece], spool: IO[bytes], note: Callable[[_OnTheWay], None] = lambda way: None) -> _End:
    """Write tables to a file until the end comes, and return that; note: is given states on the way."""
    end: _End | None = None

    def tables() -> Iterator[pa.Table]:
        nonlocal end
        for piece in pieces:
            if isinstance(piece, _End):
                end = piece
                return
            if isinstance(piece, _OnTheWay):
                note(piece)
            else:
                yield piece

    _laid_down(tables(), spool)
    if end is None:
        raise RuntimeError("a set ended without saying so")
    return end


def _laid_down(tables: Iterable[pa.Table], spool: IO[bytes]) -> None:
    """Write tables to an empty file."""
    writer: Any = None
    for table in tables:
        writer = writer or pa.ipc.new_stream(spool, table.schema)
        writer.write_table(table.combine_chunks())
    if writer:
        writer.close()


def _unspooled(spool: IO[bytes]) -> Iterator[pa.Table]:
    """Read the pieces back, one at a time."""
    if spool.tell():
        spool.seek(0)
        for batch in pa.ipc.open_stream(spool):
            yield pa.Table.from_batches([batch])


def _failed(name: str, cause: Exception, detail: str, seconds: float, usage: Usage | None = None) -> SetOutcome:
    failure = failure_of(name, cause, postponed=isinstance(cause, Postponed))
    return SetOutcome(0, seconds, usage or {}, failure.error, detail[-4000:], failure.postponed)


def _on_worker(credentials: Mapping[str, str], given: tuple[Any, ...]) -> Iterator[_Piece]:
    """Do `_compute` with the keys that the recipe names for object stores."""
    use(credentials)
    yield from _compute(*given)


def _compute(
    store_uri: str,
    version: int,
    name: str,
    params: dict[str, Any],
    keys: Keys,
    state: str = "",
    stretch_clips: int = STRETCH_CLIPS,
) -> Iterator[_Piece]:
    """Compute a set on the worker.

    Args:
        store_uri: of the store.
        version: of `clips`, that is read.
        name: of the annotator.
        params: its parameters.
        keys: that it needs.
        state: JSON of the one to begin with, in place of the store's.
        stretch_clips: members of a set that is done here, at most, where tasks could share it.

    Yields:
        States on the way; pieces with clip_id, the columns and the fingerprint of members, each member once, but where
        the end leaves them to tasks; and the end. Where a problem kept it from finishing, the fingerprints are null,
        and the next run continues.
    """
    meter, began = Meter(), time.monotonic()
    store, annotator = Store(store_uri), load(name, params)
    assert isinstance(annotator, SetAnnotator)
    members = Members(store, annotator, version)
    reader = MemberReader(members)
    problem: Any = None
    with keys_in_environment(keys):
        try:
            before = json.loads(state) if state else _load_state(store, annotator)
            found, last = yield from _on_the_way(annotator, annotator.steps(reader, before))
        except PartialResult as part:
            found, last, problem = part.columns, part.state, part.__cause__ or part
        finally:
            usage = take_usage(annotator)
            close_chats()  # Ray keeps the worker: it must not keep a model or an engine
    fingerprint, left = None if problem else members.fingerprint, None
    if isinstance(found, PerBatch):
        work = SharedWork(store_uri, version, name, params, fingerprint, found.reads, found.compute, stretch_clips)
        rows = work.rows(work.stretches())
        left = work if members.count > stretch_clips else None
    else:
        rows = _rows(reader, annotator, found, fingerprint)
    if not left:
        yield from rebatched(rows, rows_schema(annotator), MERGED_CLIPS)
    yield _End(json.dumps(last), usage, problem, Lap(1, time.monotonic() - began, meter.take()), left)


def _on_the_way(annotator: SetAnnotator, steps: Steps) -> Generator[_OnTheWay, None, tuple[Iterable[Any], Any]]:
    """Take the steps of an annotator, and return what they end with."""
    while True:
        try:
            state = next(steps)
        except StopIteration as end:
            return end.value
        yield _OnTheWay(json.dumps(state), take_usage(annotator))


def _rows(
    reader: MemberReader, annotator: SetAnnotator, found: Iterable[Mapping[str, Any]], fingerprint: str | None
) -> Iterator[pa.Table]:
    """Yield rows of `clips`: the results of the members that are complete, and nulls for the others."""
    results = iter(found)
    first = next(results, None)  # a pass of its own begins, or ends, before masks are asked for
    masks = reader.masks()
    parts = chain([] if first is None else [first], results)
    for ids, mask, columns in zip(reader.ids(), masks, parts, strict=True):
        annotator.refuse_others(columns)
        yield laid_out(annotator, ids, mask, columns, fingerprint)


def _load_state(store: Store, annotator: Computes) -> Any:
    """Load the newest state that this code, with these parameters and models, left."""
    rows = store.read("annotator_states", filter=f"annotator = '{annotator.name}'").to_pylist()
    mine = [r for r in rows if r["fingerprint"] == annotator.fingerprint]
    return json.loads(max(mine, key=lambda r: r["at"])["state"]) if mine else None


def _save_state(store: Store, annotator: Computes, state: str) -> None:
    """Put the new state in the place of the old one, in one commit: a run that is killed leaves one of the two."""
    row = {"annotator": annotator.name, "fingerprint": annotator.fingerprint, "state": state, "at": datetime.now(UTC)}
    rows = pa.Table.from_pylist([row], schema=store.schema("annotator_states"))
    store.merge("annotator_states", rows, on="annotator", insert=True)


def _has_failed(store: Store, name: str, expected: str) -> bool:
    return store.count("failures", f"stage = '{name}' AND fingerprint = '{expected}' AND clip_id IS NULL") > 0
