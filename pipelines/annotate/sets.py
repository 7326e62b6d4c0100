"""Annotators that look at all clips at once: whether they must run again, and running them on one worker."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelwright.annotate import (
    Computes,
    PartialResult,
    Postponed,
    SetAnnotator,
    fingerprint_with,
    load,
    schema_of,
    stored_needs,
)
from reelwright.annotate.chat.registry import close_chats, take_usage
from reelwright.annotate.contract import digest_of
from reelwright.annotate.run import failure_of
from reelwright.curation.store import Store
from reelwright.pipelines.annotate.keys import Keys, keys_in_environment
from reelwright.pipelines.annotate.load import PART_COLUMNS, SOURCE_COLUMNS, producers_of
from reelwright.pipelines.recipes.curation import Need

Usage = Mapping[str, Mapping[str, float]]  # annotator -> tokens and USD


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
    """clips that are done. seconds of the call; error and detail where it failed, in whole or in part."""

    clips: int
    seconds: float
    usage: Usage = field(default_factory=dict)
    error: str = ""
    detail: str = ""
    postponed: bool = False


def set_staleness(store: Store, annotator: SetAnnotator, *, retry_failed: bool = False) -> SetStaleness:
    """Compare the fingerprint of the set's members with the stored one; reads ids and fingerprints alone."""
    clips = _members(store, annotator, [f"{annotator.name}_fingerprint"])
    expected = _expected(annotator, clips)
    current = 0
    if f"{annotator.name}_fingerprint" in clips.column_names:
        current = pc.sum(pc.equal(clips.column(f"{annotator.name}_fingerprint"), expected)).as_py() or 0
    return SetStaleness(
        expected, len(clips), store.count("clips") - len(clips), len(clips) - current,
        not retry_failed and _has_failed(store, annotator.name, expected),
    )  # fmt: skip


def run_set(store: Store, name: str, params: Mapping[str, Any], need: Need, attempts: int, keys: Keys) -> SetOutcome:
    """Run one on a worker and commit its results. A failure of its own is reported, not raised."""
    import ray

    annotator = load(name, params)
    remote: Any = ray.remote(_compute).options(
        num_cpus=need.cpus, num_gpus=need.gpus, max_retries=attempts, name=f"reel:{name}"
    )
    began = time.monotonic()
    version = store.dataset("clips").version
    try:
        table, state, usage, problem = ray.get(remote.remote(store.uri, version, name, dict(params), keys))
    except ray.exceptions.RayError as error:
        return _failed(name, getattr(error, "cause", error), str(error), time.monotonic() - began)
    store.merge("clips", table, on="clip_id")
    _save_state(store, annotator, state)
    seconds = time.monotonic() - began
    if problem:
        return _failed(name, problem, str(problem), seconds, usage)
    return SetOutcome(table.num_rows, seconds, usage)


def _failed(name: str, cause: Exception, detail: str, seconds: float, usage: Usage | None = None) -> SetOutcome:
    failure = failure_of(name, cause, postponed=isinstance(cause, Postponed))
    return SetOutcome(0, seconds, usage or {}, failure.error, detail[-4000:], failure.postponed)


def _compute(
    store_uri: str, version: int, name: str, params: dict[str, Any], keys: Keys
) -> tuple[pa.Table, str, Usage, Exception | None]:
    """Compute a set on the worker.

    Returns:
        clip_id, the columns and the fingerprint of every member; the new state as JSON; the usage; and the error that
        kept it from finishing, if any: then the fingerprints are null, and the next run continues.
    """
    store, annotator = Store(store_uri), load(name, params)
    assert isinstance(annotator, SetAnnotator)
    members = _members(store, annotator, [], version)
    wanted = [n.column for n in stored_needs(annotator)]
    clips, complete = _with_values(store, annotator, members, wanted, version)
    problem: Any = None
    with keys_in_environment(keys):
        try:
            found, state = annotator(clips.select(["clip_id", *wanted]), _load_state(store, annotator))
        except PartialResult as part:
            found, state, problem = part.columns, part.state, part.__cause__ or part
        finally:
            usage = take_usage(annotator)
            close_chats()  # Ray keeps the worker: it must not keep a model or an engine
    if set(found) != set(annotator.columns):
        raise ValueError(f"annotator {name!r} does not write the columns it declares: {', '.join(sorted(found))}")
    indices = pa.array(np.where(complete, np.cumsum(complete) - 1, -1))
    indices = pc.if_else(pc.less(indices, 0), pa.scalar(None, indices.type), indices)
    columns = [pa.array(found[c], type=annotator.columns[c].type).take(indices) for c in annotator.columns]
    prints = pa.array([None if problem else _expected(annotator, members)] * len(members), pa.string())
    schema = pa.schema([pa.field("clip_id", pa.string()), *schema_of(annotator)])
    ids = members.column("clip_id").combine_chunks()
    return pa.Table.from_arrays([ids, *columns, prints], schema=schema), json.dumps(state), usage, problem


def _members(store: Store, annotator: SetAnnotator, more: list[str], version: int | None = None) -> pa.Table:
    """Clips that are ready for it, in order of clip_id: their ids and the fingerprints of its inputs."""
    producers, schema = producers_of(store), store.schema("clips").names
    reads = sorted({f"{producers[n.column]}_fingerprint" for n in stored_needs(annotator) if n.column in producers})
    musts = [n.column for n in stored_needs(annotator) if not n.optional]
    if any(c not in schema and c not in SOURCE_COLUMNS for c in musts):
        musts_filter = "false"
    else:
        made = sorted({f"{producers[c]}_fingerprint IS NOT NULL" for c in musts if c in producers})
        musts_filter = " AND ".join(made)
    reads += [c for c in more if c in schema]
    clips = store.read("clips", ["clip_id", *reads], filter=musts_filter or None, version=version)
    return clips.sort_by("clip_id").combine_chunks()


def _expected(annotator: SetAnnotator, members: pa.Table) -> str:
    """Return the fingerprint of the set; it changes with its clips, and with the values read of any of them."""
    reads = sorted(c for c in members.column_names if c not in ("clip_id", f"{annotator.name}_fingerprint"))
    return fingerprint_with(annotator, {"clips": digest_of(members.select(["clip_id", *reads]))})


def _with_values(
    store: Store, annotator: Computes, members: pa.Table, wanted: list[str], version: int
) -> tuple[pa.Table, np.ndarray]:
    """Members with the columns it reads, without members that lack a required one; and which ones are left."""
    there = [c for c in wanted if c in store.schema("clips").names]
    parts = [PART_COLUMNS[c] for c in wanted if c in PART_COLUMNS]
    values = store.read("clips", ["clip_id", "source_md5", *there, *parts], version=version)
    order = pc.index_in(members.column("clip_id"), values.column("clip_id"))
    clips = values.drop_columns(parts).take(order)
    for column in wanted:
        if column in SOURCE_COLUMNS:
            part = values.column(PART_COLUMNS[column]).take(order)
            clips = clips.append_column(column, pc.coalesce(part, _of_sources(store, clips, SOURCE_COLUMNS[column])))
        elif column not in there:
            clips = clips.append_column(column, pa.nulls(len(clips)))
    complete = np.ones(len(clips), bool)
    for need in stored_needs(annotator):
        if not need.optional:
            complete &= clips.column(need.column).is_valid().to_numpy()
    return clips.filter(pa.array(complete)).combine_chunks(), complete


def _of_sources(store: Store, clips: pa.Table, column: str) -> pa.Array:
    rows = store.read("sources", ["md5", column], filter="state = 'ok'")
    indices = pc.index_in(clips.column("source_md5"), rows.column("md5"))
    return rows.column(column).combine_chunks().take(indices)


def _load_state(store: Store, annotator: SetAnnotator) -> Any:
    """Load the newest state that this code, with these parameters and models, left."""
    rows = store.read("annotator_states", filter=f"annotator = '{annotator.name}'").to_pylist()
    mine = [r for r in rows if r["fingerprint"] == annotator.fingerprint]
    return json.loads(max(mine, key=lambda r: r["at"])["state"]) if mine else None


def _save_state(store: Store, annotator: Computes, state: str) -> None:
    store.delete("annotator_states", f"annotator = '{annotator.name}'")
    row = {"annotator": annotator.name, "fingerprint": annotator.fingerprint, "state": state, "at": datetime.now(UTC)}
    store.append("annotator_states", [row])


def _has_failed(store: Store, name: str, expected: str) -> bool:
    return store.count("failures", f"stage = '{name}' AND fingerprint = '{expected}' AND clip_id IS NULL") > 0
