"""The part of a set that tasks share: columns that each batch has by itself (`PerBatch`).

A task reads a stretch of `clips` at the set's version, and its results stay where they were made until the driver lays
them down. So the driver holds one piece at a time, and a task that is lost is done again by Ray: which piece comes
first makes no difference, and none is stored before the last has come.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from reelwright.annotate import Computes, Postponed, SetAnnotator, load, schema_of
from reelwright.annotate.run import failure_of
from reelwright.curation.credentials import use
from reelwright.curation.results import Failed
from reelwright.curation.store import Store
from reelwright.pipelines.annotate.set_members import MemberReader, Members
from reelwright.pipelines.recipes.curation import CurateRecipe, Need
from reelwright.pipelines.runtime.flow import Flow
from reelwright.pipelines.runtime.meter import Stage

STRETCH_CLIPS = 262_144
"""Clips of a task: its results are merged together, four fragments. A set with no more is done where it was begun."""
STORED_SHARE = 0.5  # of Ray's memory for objects, that results may take before they are laid down


@dataclass(frozen=True)
class SharedWork:
    """What is left to do of a set once each batch has its columns by itself.

    Args:
        store_uri: of the store.
        version: of `clips`, that is read.
        name: of the annotator.
        params: its parameters.
        fingerprint: of the results; None where a problem kept the annotator from finishing.
        reads: columns that `compute` reads.
        compute: see `PerBatch`.
        stretch_clips: of a task, at most, but for a larger fragment.
    """

    store_uri: str
    version: int
    name: str
    params: Mapping[str, Any]
    fingerprint: str | None
    reads: tuple[str, ...]
    compute: Callable[[pa.Table], Mapping[str, Any]]
    stretch_clips: int = STRETCH_CLIPS

    def stretches(self) -> list[tuple[int, ...]]:
        """Return the parts that tasks do: numbers of fragments of `clips`."""
        return Store(self.store_uri).stretches("clips", self.stretch_clips, version=self.version)

    def rows(self, stretches: Iterable[Sequence[int]]) -> Iterator[pa.Table]:
        """Yield rows of `clips` with the results of members, batch by batch; no batch lies in two stretches."""
        store, annotator = Store(self.store_uri), load(self.name, self.params)
        assert isinstance(annotator, SetAnnotator)
        for fragments in stretches:
            reader = MemberReader(Members(store, annotator, self.version, fragments))
            for ids, mask, complete in reader.looked_at(self.reads):
                found = self.compute(complete)
                annotator.refuse_others(found)
                yield laid_out(annotator, ids, mask, found, self.fingerprint)


class StretchFailed(Exception):
    """A task failed, or its worker was lost again and again: so the set has no results. `why` has the sentence."""

    def __init__(self, why: Failed) -> None:
        super().__init__(why.message)
        self.why = why


def rows_schema(annotator: Computes) -> pa.Schema:
    """Return clip_id, the columns of an annotator and their fingerprint."""
    return pa.schema([pa.field("clip_id", pa.string()), *schema_of(annotator)])


def laid_out(
    annotator: Computes, ids: pa.Array, mask: pa.Array, columns: Mapping[str, Any], fingerprint: str | None
) -> pa.Table:
    """Return rows of `clips` for a batch.

    Args:
        annotator: whose columns these are.
        ids: of the members, N.
        mask: which of them are complete, bool [N]; the others' columns are null.
        columns: of the M complete ones.
        fingerprint: of all N.
    """
    complete = mask.to_numpy(zero_copy_only=False)
    place = pa.array(np.cumsum(complete) - 1, mask=~complete)
    values = [pa.array(columns[c], type=kind.type).take(place) for c, kind in annotator.columns.items()]
    prints = pa.array([fingerprint] * len(ids), pa.string())
    return pa.Table.from_arrays([ids, *values, prints], schema=rows_schema(annotator))


def by_tasks(work: SharedWork, need: Need, recipe: CurateRecipe, stages: defaultdict[str, Stage]) -> Iterator[pa.Table]:
    """Share the work out, and yield the rows of each stretch as they come.

    Args:
        work: to share.
        need: CPUs and GPUs of a task.
        recipe: it names the tries again after a lost worker.
        stages: what tasks took is counted there, by the annotator's name.

    Raises:
        StretchFailed: a stretch could not be done; tasks that are under way end by themselves.
    """
    import ray

    flow = Flow(
        {work.name: (compute_stretch, need, 2)}, attempts=recipe.limits.attempts,
        prepare=partial(use, recipe.credentials),
    )  # fmt: skip
    flow.stages = stages
    shared, left, largest = ray.put(work), work.stretches(), 0
    try:
        while left or flow:
            while left and flow.waiting(work.name) < _at_once(flow, work.name, largest):
                flow.add(work.name, None, shared, left.pop(0))
            for done in flow.next_done():
                if isinstance(done.value, Failed):
                    raise StretchFailed(done.value)
                largest = max(largest, done.value)
                yield _fetched(work.name, done.extra)
    finally:
        flow.forget()


def compute_stretch(work: SharedWork, fragments: Sequence[int]) -> tuple[int | Failed, pa.Table | None]:
    """Do a stretch on a worker; returns the bytes of its rows, and these, or why there are none."""
    try:
        rows = pa.concat_tables(work.rows([fragments])).combine_chunks()
    except Exception as error:
        failure = failure_of(work.name, error, postponed=isinstance(error, Postponed))
        return Failed(work.name, failure.error, failure.detail, postponed=failure.postponed), None
    return rows.nbytes, rows


def _fetched(name: str, rows: Any) -> pa.Table:
    """Fetch a piece from where it was made; where that node is gone, Ray makes it again. rows: its ObjectRef."""
    import ray

    try:
        return ray.get(rows)
    except ray.exceptions.RayError as error:
        why = f"the worker was lost ({type(error).__name__})"
        raise StretchFailed(Failed(name, why, str(error)[-2000:])) from error


def _at_once(flow: Flow, name: str, largest: int) -> int:
    """Return how many stretches may be at tasks, or wait to be laid down: as CPUs and Ray's memory for objects allow.

    largest: bytes of the largest piece so far.
    """
    import ray

    most = flow.wanted(name)
    if largest:
        most = min(most, int(STORED_SHARE * ray.cluster_resources().get("object_store_memory", 0) / largest))
    return max(1, most)
