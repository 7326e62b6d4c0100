"""Annotators that look at all clips at once: whether they must run again, and running them on one worker.

The worker reads the set in batches, as its annotator asks for them, and sends results back in pieces. This process lays
them down in a file and merges them once the last has come: neither holds the columns of all clips, and a worker that is
lost leaves the set as it was.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import chain
from typing import IO, Any

import numpy as np
import pyarrow as pa

from reelwright.annotate import Computes, PartialResult, Postponed, SetAnnotator, load, schema_of
from reelwright.annotate.chat.registry import close_chats, take_usage
from reelwright.annotate.keys import Keys, keys_in_environment
from reelwright.annotate.run import failure_of
from reelwright.annotate.set_reader import rebatched
from reelwright.curation.store import Store
from reelwright.curation.usage import Lap
from reelwright.pipelines.annotate.set_members import MemberReader, Members
from reelwright.pipelines.recipes.curation import Need
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
class _End:
    """What a worker says last.

    The new state as JSON, the usage, the error that kept it from finishing, if any, and what it took.
    """

    state: str
    usage: Usage
    problem: Exception | None
    took: Lap


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
    name: str,
    params: Mapping[str, Any],
    need: Need,
    attempts: int,
    keys: Keys,
    merged: Callable[[int], None] = lambda clips: None,
) -> SetOutcome:
    """Run one on a worker and commit its results. A failure of its own is reported, not raised.

    Args:
        store: the store.
        name: of the annotator.
        params: of it.
        need: of the worker.
        attempts: tries again after a lost worker.
        keys: that it needs.
        merged: called with the clips whose results are in the store so far.
    """
    import ray

    annotator = load(name, params)
    remote: Any = ray.remote(_compute).options(
        num_cpus=need.cpus, num_gpus=need.gpus, max_retries=attempts, name=f"reel:{name}", num_returns="streaming",
        _generator_backpressure_num_objects=PIECES_AHEAD,
    )  # fmt: skip
    began = time.monotonic()
    version = store.dataset("clips").version
    clips = 0
    with tempfile.TemporaryFile(prefix="reel-set-") as spool:  # a set of which a part is another fit's is none
        try:
            pieces = (ray.get(piece) for piece in remote.remote(store.uri, version, name, dict(params), keys))
            end = _spooled(pieces, spool)
        except ray.exceptions.RayError as error:
            return _failed(name, getattr(error, "cause", error), str(error), time.monotonic() - began)
        for table in _unspooled(spool):
            store.merge("clips", table, on="clip_id")
            clips += table.num_rows
            merged(clips)
    _save_state(store, annotator, end.state)
    seconds = time.monotonic() - began
    if end.problem:
        return replace(_failed(name, end.problem, str(end.problem), seconds, end.usage), took=end.took)
    return SetOutcome(clips, seconds, end.usage, took=end.took)


def _spooled(pieces: Iterable[pa.Table | _End], spool: IO[bytes]) -> _End:
    """Write pieces to a file until the end comes, and return that."""
    writer: Any = None
    for piece in pieces:
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


def _compute(store_uri: str, version: int, name: str, params: dict[str, Any], keys: Keys) -> Iterator[pa.Table | _End]:
    """Compute a set on the worker.

    Yields:
        Pieces with clip_id, the columns and the fingerprint of members, each member once; and the end. Where a problem
        kept it from finishing, the fingerprints are null, and the next run continues.
    """
    meter, began = Meter(), time.monotonic()
    store, annotator = Store(store_uri), load(name, params)
    assert isinstance(annotator, SetAnnotator)
    members = Members(store, annotator, version)
    reader = MemberReader(members)
    problem: Any = None
    with keys_in_environment(keys):
        try:
            found, state = annotator.stream(reader, _load_state(store, annotator))
        except PartialResult as part:
            found, state, problem = part.columns, part.state, part.__cause__ or part
        finally:
            usage = take_usage(annotator)
            close_chats()  # Ray keeps the worker: it must not keep a model or an engine
    schema = pa.schema([pa.field("clip_id", pa.string()), *schema_of(annotator)])
    rows = _rows(reader, annotator, found, None if problem else members.fingerprint, schema)
    yield from rebatched(rows, schema, MERGED_CLIPS)
    yield _End(json.dumps(state), usage, problem, Lap(1, time.monotonic() - began, meter.take()))


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
