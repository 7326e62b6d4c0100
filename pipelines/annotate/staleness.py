"""Where the clips of a store stand with annotators, looked at a stretch of the table at a time.

A driver never holds a row of every clip: it reads ids, sizes and fingerprints of a stretch, counts what is to be done,
and reads them again where the clips are handed out. What it keeps per clip is a bit for each column that some annotator
requires, and with a condition 8 bytes for each clip that this one chooses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelwright.annotate import Annotator, stored_needs
from reelwright.annotate.set_reader import rebatched
from reelwright.curation.keys.hashing import Hasher
from reelwright.curation.results import UNMEASURABLE
from reelwright.curation.store import Store
from reelwright.curation.store.failures import unresolved_clips
from reelwright.curation.store.row_marks import ROW_ID
from reelwright.pipelines.annotate.load import PART_COLUMNS, SOURCE_COLUMNS, producers_of
from reelwright.pipelines.annotate.row_flags import RowFlags
from reelwright.pipelines.annotate.stretch import (
    CURRENT,
    FACTS,
    FAILED,
    STALE,
    WAITING,
    Stretch,
    expected_of,
    is_same,
    reads,
)

STRETCH = 65_536
"""Clips that are looked at together."""


class Staleness:
    """The state of each clip under each annotator, at one version of `clips`.

    It reads fingerprints, not values, as long as nothing is stale.

    Args:
        store: the store.
        annotators: by name.
        retry_failed: take clips that failed before for stale.
        where: a SQL condition on `clips_full`; other clips are not looked at.
        stretch: clips that are looked at together.
    """

    def __init__(
        self,
        store: Store,
        annotators: Mapping[str, Annotator],
        *,
        retry_failed: bool = False,
        where: str | None = None,
        stretch: int = STRETCH,
    ) -> None:
        self.store, self.annotators = store, annotators
        self._retry_failed, self._where, self._size = retry_failed, where, stretch
        dataset = store.dataset("clips")
        self.version: int = dataset.version
        self._schema = dataset.schema.append(pa.field(ROW_ID, pa.uint64()))
        self._producers = producers_of(store)
        columns = {f"{n}_fingerprint" for a in annotators.values() for n in [a.name, *reads(a, self._producers)]}
        self._columns = [ROW_ID, *FACTS, *sorted(columns & set(self._schema.names))]
        self._ready: dict[str, RowFlags | None] = {}
        self._failures: dict[str, tuple[pa.Array, set[tuple[str, str]]]] = {}
        self._only: Stretch | None = None

    def stretches(self) -> Iterator[Stretch]:
        """Look at all clips, in the table's order; a table that is one stretch is looked at once."""
        if self._only is not None:
            yield self._only
            return
        for number, clips in enumerate(self._scan(self._columns)):
            found = self._look(number, clips)
            if not number and len(clips) < self._size:
                self._only = found
            yield found

    @cached_property
    def counts(self) -> dict[str, np.ndarray]:
        """Annotator -> its clips by state, int [4]."""
        counts = {name: np.zeros(4, int) for name in self.annotators}
        for stretch in self.stretches():
            for name, states in stretch.states.items():
                counts[name] += np.bincount(states, minlength=4)
        return counts

    def count(self, name: str, state: int) -> int:
        """Count the clips in this state."""
        return int(self.counts[name][state])

    @property
    def is_current(self) -> bool:
        """Whether no annotator has anything to do."""
        return not any(self.count(name, STALE) for name in self.annotators)

    @property
    def failed(self) -> int:
        """How many annotations failed before, and are not tried again."""
        return sum(self.count(name, FAILED) for name in self.annotators)

    # --- one stretch -------------------------------------------------------------------------------------------------

    def _scan(self, columns: list[str]) -> Iterator[pa.Table]:
        """Columns of all clips, always cut in the same places."""
        batches = self.store.scan("clips", columns, version=self.version, batch_rows=min(self._size, 8_192))
        schema = pa.schema([self._schema.field(name) for name in columns])
        return (clips.combine_chunks() for clips in rebatched(batches, schema, self._size))

    def _look(self, number: int, clips: pa.Table) -> Stretch:
        chosen = None if self._where is None else self._chosen[number]
        clips = clips if chosen is None else clips.filter(pa.array(chosen)).combine_chunks()
        states, expected = {}, {}
        for name, annotator in self.annotators.items():
            expected[name] = expected_of(annotator, clips, self._producers)
            is_current = is_same(clips, f"{name}_fingerprint", expected[name])
            states[name] = np.where(is_current, CURRENT, STALE).astype(np.uint8)
            if not is_current.all():
                for column in (n.column for n in stored_needs(annotator) if not n.optional):
                    states[name][~self._has(column, number, len(clips), chosen) & ~is_current] = WAITING
                if not self._retry_failed:
                    self._mark_failed(name, clips, states[name], expected[name])
        return Stretch(clips, states, expected, self.version)

    def _has(self, column: str, number: int, clips: int, chosen: np.ndarray | None) -> np.ndarray:
        """Which clips of a stretch have a value that an annotator requires, bool [clips]: others wait for it."""
        if column not in self._ready:
            self._ready[column] = self._look_for(column)
        flags = self._ready[column]
        if flags is None:
            return np.zeros(clips, bool)
        return flags[number] if chosen is None else flags[number][chosen]

    def _look_for(self, column: str) -> RowFlags | None:
        if column in SOURCE_COLUMNS:
            return RowFlags(self._with_source_value(SOURCE_COLUMNS[column], PART_COLUMNS[column]))
        return RowFlags(self._given(column)) if column in self._schema.names else None

    def _given(self, column: str) -> Iterator[np.ndarray]:
        given = {"clip_id": "clip_id", "given": f"`{column}` IS NOT NULL"}  # Lance wants a column, too
        batches = self.store.scan("clips", given, version=self.version, batch_rows=min(self._size, 8_192))
        schema = pa.schema([self._schema.field("clip_id"), pa.field("given", pa.bool_(), nullable=False)])
        for clips in rebatched(batches, schema, self._size):
            yield clips["given"].to_numpy()

    def _with_source_value(self, column: str, of_part: str) -> Iterator[np.ndarray]:
        """Clips whose source has a value, or their own part of it; a store of an earlier version may lack parts."""
        filled = self.store.read("sources", ["md5"], filter=f"`{column}` IS NOT NULL AND state = 'ok'")
        md5s = filled.column(0).combine_chunks()
        parts = self._given(of_part) if of_part in self._schema.names else None
        for clips in self._scan(["source_md5"]):
            has = pc.is_in(clips["source_md5"], md5s).to_numpy()
            yield has if parts is None else has | next(parts)

    @cached_property
    def _chosen(self) -> RowFlags:
        """Clips that the condition chooses, by half of a 128-bit hash of their ids."""
        hasher = Hasher()
        batches = self.store.sql_stream(f"SELECT clip_id FROM clips_full WHERE {self._where}")
        hashes = [hasher(batch.column(0))[0] for batch in batches]
        chosen = np.sort(np.concatenate([*hashes, np.full(1, 2**64 - 1, np.uint64)]))  # the last: never past the end

        def pieces() -> Iterator[np.ndarray]:
            for clips in self._scan(["clip_id"]):
                own = hasher(clips["clip_id"].combine_chunks())[0]
                yield chosen[np.searchsorted(chosen, own)] == own

        return RowFlags(pieces())

    def _mark_failed(self, name: str, clips: pa.Table, states: np.ndarray, expected: pa.DictionaryArray) -> None:
        if name not in self._failures:
            rows = unresolved_clips(self.store, [name])
            rows = rows.filter(pc.fill_null(pc.not_equal(rows["kind"], UNMEASURABLE), True))  # those are current
            pairs = zip(rows["clip_id"].to_pylist(), rows["fingerprint"].to_pylist(), strict=True)
            self._failures[name] = rows["clip_id"].combine_chunks(), set(pairs)
        ids, failed = self._failures[name]
        if not len(ids):
            return
        at = np.flatnonzero(pc.is_in(clips["clip_id"], ids).to_numpy())
        for index in at[states[at] == STALE]:
            if (clips["clip_id"][index].as_py(), expected[index].as_py()) in failed:
                states[index] = FAILED
