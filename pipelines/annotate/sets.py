"""Annotators that look at all clips at once: whether they must run again, and running them on one worker.

The worker reads the set in batches, as its annotator asks for them, and sends results back in pieces. This process lays
them down in a file and merges them once the last has come: neither holds the columns of all clips, and a worker that is
lost leaves the set as it was. Another one then begins with the state to which the lost one had come, if its annotator
tells (`SetAnnotator.steps`). Tasks are not retried by Ray, which would take a second attempt's pieces for the first's.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import chain
from typing import IO, Any, Self, TypeAlias

import numpy as np
import pyarrow as pa

from reelwright.annotate import Computes, PartialResult, Postponed, SetAnnotator, load, schema_of
from reelwright.annotate.chat.registry import close_chats, take_usage
from reelwright.annotate.contract import Steps
from reelwright.annotate.keys import Keys, keys_in_environment
from reelwright.annotate.run import failure_of
from reelwright.annotate.set_reader import rebatched
from reelwright.curation.store import Store
from reelwright.curation.usage import Lap
from reelwright.pipelines.annotate.lanes import need_of
from reelwright.pipelines.annotate.set_members import MemberReader, Members
from reelwright.pipelines.recipes.curation import CurateRecipe
from reelwright.pipelines.runtime.meter import Meter

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
    """clips that are done. seconds of the call; error and detail where it failed, in whole or in part.

    took: by its worker; None where that was lost.
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

    The new state as JSON, the usage, the error that kept it from finishing, if any, and what it took.
    """

    state: str
    usage: Usage
    problem: Exception | None
    took: Lap


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
) -> SetOutcome:
    """Run one on a worker and commit its results. A failure of its own is reported, not raised.

    Args:
        store: the store.
        recipe: it names the annotator's parameters, its worker's needs, and the tries again after a lost worker.
        annotator: one of the recipe's.
        keys: that it needs.
        merged: called with the clips whose results are in the store so far.
    """
    import ray

    name, need, params = annotator.name, need_of(annotator, recipe), dict(recipe.annotator_params())[annotator.name]
    remote: Any = ray.remote(_compute).options(
        num_cpus=need.cpus, num_gpus=need.gpus, max_retries=0, name=f"reel:{name}", num_returns="streaming",
        _generator_backpressure_num_objects=PIECES_AHEAD,
    )  # fmt: skip
    began = time.monotonic()
    version = store.dataset("clips").version
    clips = 0

    def pieces(state: str) -> Iterator[_Piece]:
        return (ray.get(piece) for piece in remote.remote(store.uri, version, name, dict(params), keys, state))

    with (
        tempfile.TemporaryFile(prefix="reel-set-") as spool,
        _Saved(store, annotator, recipe.batches.commit_s) as saved,
    ):
        try:
            end = _from_some_worker(pieces, recipe.limits.attempts, spool, saved)
        except ray.exceptions.RayError as error:
            seconds = time.monotonic() - began
            return _failed(name, getattr(error, "cause", error), str(error), seconds, saved.used())
        for table in _unspooled(spool):  # a set of which a part is another fit's is none
            store.merge("clips", table, on="clip_id")
            clips += table.num_rows
            merged(clips)
        saved.end(end.state)
    seconds = time.monotonic() - began
    if end.problem:
        return replace(_failed(name, end.problem, str(end.problem), seconds, saved.used(end.usage)), took=end.took)
    return SetOutcome(clips, seconds, saved.used(end.usage), took=end.took)


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
    writer: Any = None
    for piece in pieces:
        if isinstance(piece, _OnTheWay):
            note(piece)
            continue
        if isinstance(piece, _End):
            if writer:
                writer.close()
            return piece
        writer = writer or pa.ipc.new_stream(spool, piece.schema)
        writer.write_table(piece.combine_chunks())
    raise RuntimeError("a set ended without saying so")


def _unspooled(spool: IO[bytes]) -> Iterator[pa.Table]:
    """Read the pieces back, one at a time."""
    if spool.tell():
        spool.seek(0)
        for batch in pa.ipc.open_stream(spool):
            yield pa.Table.from_batches([batch])


def _failed(name: str, cause: Exception, detail: str, seconds: float, usage: Usage | None = None) -> SetOutcome:
    failure = failure_of(name, cause, postponed=isinstance(cause, Postponed))
    return SetOutcome(0, seconds, usage or {}, failure.error, detail[-4000:], failure.postponed)


def _compute(
    store_uri: str, version: int, name: str, params: dict[str, Any], keys: Keys, state: str = ""
) -> Iterator[_Piece]:
    """Compute a set on the worker. state: JSON of the one to begin with, in place of the store's.

    Yields:
        States on the way; pieces with clip_id, the columns and the fingerprint of members, each member once; and the
        end. Where a problem kept it from finishing, the fingerprints are null, and the next run continues.
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
    schema = pa.schema([pa.field("clip_id", pa.string()), *schema_of(annotator)])
    rows = _rows(reader, annotator, found, None if problem else members.fingerprint, schema)
    yield from rebatched(rows, schema, MERGED_CLIPS)
    yield _End(json.dumps(last), usage, problem, Lap(1, time.monotonic() - began, meter.take()))


def _on_the_way(annotator: SetAnnotator, steps: Steps) -> Generator[_OnTheWay, None, tuple[Iterable[Any], Any]]:
    """Take the steps of an annotator, and return what they end with."""
    while True:
        try:
            state = next(steps)
        except StopIteration as end:
            return end.value
        yield _OnTheWay(json.dumps(state), take_usage(annotator))


def _rows(
    reader: MemberReader,
    annotator: SetAnnotator,
    found: Iterable[Mapping[str, Any]],
    fingerprint: str | None,
    schema: pa.Schema,
) -> Iterator[pa.Table]:
    """Yield rows of `clips`: the results of the members that are complete, and nulls for the others."""
    results = iter(found)
    first = next(results, None)  # a pass of its own begins, or ends, before masks are asked for
    masks = reader.masks()
    parts = chain([] if first is None else [first], results)
    for ids, mask, columns in zip(reader.ids(), masks, parts, strict=True):
        annotator.refuse_others(columns)
        complete = mask.to_numpy(zero_copy_only=False)
        place = pa.array(np.cumsum(complete) - 1, mask=~complete)
        values = [pa.array(columns[c], type=annotator.columns[c].type).take(place) for c in annotator.columns]
        prints = pa.array([fingerprint] * len(ids), pa.string())
        yield pa.Table.from_arrays([ids, *values, prints], schema=schema)


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
