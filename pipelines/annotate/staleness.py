"""Where each clip stands with each annotator: current, stale, waiting for another's column, or failed before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelwright.annotate import Annotator, Computes, expected_fingerprint, stored_needs
from reelwright.curation.results import UNMEASURABLE
from reelwright.curation.store import Store
from reelwright.curation.store.failures import unresolved_clips
from reelwright.pipelines.annotate.load import PART_COLUMNS, SOURCE_COLUMNS, producers_of

CURRENT, STALE, WAITING, FAILED = range(4)
FACTS = ("clip_id", "source_md5", "width", "height", "num_frames", "fps")


@dataclass(frozen=True)
class Staleness:
    """One look at the clips.

    clips: one row per clip, in the table's order: FACTS and fingerprints. states: annotator -> uint8 [clips].
    expected: annotator -> the fingerprint that would be current, for each clip.
    """

    clips: pa.Table
    states: Mapping[str, np.ndarray]
    expected: Mapping[str, pa.Array]
    version: int

    def count(self, name: str, state: int) -> int:
        """Count the clips in this state."""
        return int((self.states[name] == state).sum())

    @property
    def is_current(self) -> bool:
        """Whether no annotator has anything to do."""
        return not any((s == STALE).any() for s in self.states.values())

    @property
    def failed(self) -> int:
        """How many annotations failed before, and are not tried again."""
        return sum(self.count(name, FAILED) for name in self.states)


def staleness_of(
    store: Store, annotators: Mapping[str, Annotator], *, retry_failed: bool = False, where: str | None = None
) -> Staleness:
    """Return the state of each clip under each annotator.

    It reads fingerprints, not values, as long as nothing is stale. `where` is a SQL condition on `clips_full`.
    """
    producers, schema = producers_of(store), store.schema("clips").names
    columns = {f"{n}_fingerprint" for a in annotators.values() for n in [a.name, *_reads(a, producers)]}
    version = store.dataset("clips").version
    wanted = [*FACTS, *sorted(columns & set(schema))]
    clips = store.read("clips", wanted, version=version)
    if where:
        chosen = store.sql(f"SELECT clip_id FROM clips_full WHERE {where}").column(0)
        clips = clips.filter(pc.is_in(clips.column("clip_id"), chosen.combine_chunks()))
    clips = clips.combine_chunks()
    states, expected = {}, {}
    for name, annotator in annotators.items():
        expected[name] = _expected(annotator, clips, producers)
        states[name] = np.where(_same(clips, f"{name}_fingerprint", expected[name]), CURRENT, STALE).astype(np.uint8)
        if (states[name] == STALE).any():
            _mark_waiting(store, annotator, clips, states[name], version)
            if not retry_failed:
                _mark_failed(store, name, clips, states[name], expected[name])
    return Staleness(clips, states, expected, version)


def _reads(annotator: Computes, producers: Mapping[str, str]) -> list[str]:
    """List the annotators whose columns it reads."""
    return sorted({producers[n.column] for n in stored_needs(annotator) if n.column in producers})


def _expected(annotator: Annotator, clips: pa.Table, producers: Mapping[str, str]) -> pa.Array:
    """One fingerprint where it reads no other annotator; else one for each combination of theirs that there is."""
    prints = [f"{name}_fingerprint" for name in _reads(annotator, producers)]
    codes, values = np.zeros(len(clips), np.int64), []
    for column in prints:
        encoded = clips.column(column).combine_chunks().dictionary_encode()
        values.append([None, *encoded.dictionary.to_pylist()])
        codes = codes * len(values[-1]) + pc.fill_null(pc.add(encoded.indices, 1), 0).to_numpy(zero_copy_only=False)
    seen, inverse = np.unique(codes, return_inverse=True)
    rows = [dict(zip(prints, _decode(int(code), values), strict=True)) for code in seen]
    found = pa.array([expected_fingerprint(annotator, row, producers) for row in rows], pa.string())
    return found.take(pa.array(inverse))


def _decode(code: int, values: Sequence[Sequence[str | None]]) -> list[str | None]:
    out: list[str | None] = []
    for column in reversed(values):
        code, index = divmod(code, len(column))
        out.append(column[index])
    return out[::-1]


def _same(clips: pa.Table, column: str, expected: pa.Array) -> np.ndarray:
    if column not in clips.column_names:
        return np.zeros(len(clips), bool)
    return pc.fill_null(pc.equal(clips.column(column), expected), False).to_numpy()


def _mark_waiting(store: Store, annotator: Annotator, clips: pa.Table, states: np.ndarray, version: int) -> None:
    """Mark the clips that lack a value which the annotator requires: they wait for it."""
    schema = store.schema("clips").names
    for need in stored_needs(annotator):
        if need.optional:
            continue
        if need.column in SOURCE_COLUMNS:
            filled = _with_source_value(store, SOURCE_COLUMNS[need.column])
            parts = store.read("clips", ["clip_id"], filter=_given(store, PART_COLUMNS[need.column]), version=version)
            has = pc.or_(
                pc.is_in(clips.column("source_md5"), pa.array(filled, pa.string())),
                pc.is_in(clips.column("clip_id"), parts.column(0).combine_chunks()),
            )
        elif need.column in schema:
            there = store.read("clips", ["clip_id"], filter=f"{need.column} IS NOT NULL", version=version)
            has = pc.is_in(clips.column("clip_id"), there.column(0).combine_chunks())
        else:
            has = pa.array(np.zeros(len(clips), bool))
        states[~has.to_numpy(zero_copy_only=False) & (states == STALE)] = WAITING


def _given(store: Store, column: str) -> str:
    """Return a SQL condition on clips: the column has a value. A store of an earlier version may lack it."""
    return f"{column} IS NOT NULL" if column in store.schema("clips").names else "false"


def _with_source_value(store: Store, column: str) -> list[str]:
    return store.read("sources", ["md5"], filter=f"{column} IS NOT NULL AND state = 'ok'").column(0).to_pylist()


def _mark_failed(store: Store, name: str, clips: pa.Table, states: np.ndarray, expected: pa.Array) -> None:
    rows = unresolved_clips(store, [name])
    rows = rows.filter(pc.fill_null(pc.not_equal(rows.column("kind"), UNMEASURABLE), True))  # those are current
    if not rows.num_rows:
        return
    failed = {(r["clip_id"], r["fingerprint"]) for r in rows.to_pylist()}
    at = np.flatnonzero(pc.is_in(clips.column("clip_id"), rows.column("clip_id").combine_chunks()).to_numpy())
    for index in at[states[at] == STALE]:
        if (clips.column("clip_id")[index].as_py(), expected[index].as_py()) in failed:
            states[index] = FAILED
