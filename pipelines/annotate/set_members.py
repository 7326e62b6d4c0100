"""The clips of a set, as the store has them at one version: which they are, their fingerprint, and their values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelwright.annotate import SetAnnotator, fingerprint_with, stored_needs
from reelwright.annotate.set_digest import SetDigest
from reelwright.annotate.set_reader import BATCH_CLIPS, ClipReader, rebatched
from reelwright.curation.store import Store
from reelwright.pipelines.annotate.load import PART_COLUMNS, SOURCE_COLUMNS, producers_of


class Members:
    """Clips that are ready for an annotator of sets: those whose required columns have been made.

    Args:
        store: the store.
        annotator: of the set.
        version: of `clips`; default: the newest.
        fragments: of it that are looked at, by number; default: all.
    """

    def __init__(
        self,
        store: Store,
        annotator: SetAnnotator,
        version: int | None = None,
        fragments: Sequence[int] | None = None,
    ) -> None:
        self.store, self.annotator = store, annotator
        self.version = version or store.dataset("clips").version
        self._needs, self._fragments = stored_needs(annotator), fragments
        self._schema = store.dataset("clips", self.version).schema
        self._producers = producers_of(store)

    def scan(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield `clip_id` and columns of clips, always in the same order and cut in the same places."""
        names = ["clip_id", *columns]
        batches = self.store.scan(
            "clips", names, self._filter, version=self.version, batch_rows=BATCH_CLIPS, fragments=self._fragments
        )  # fmt: skip
        return rebatched(batches, pa.schema([self._schema.field(name) for name in names]), BATCH_CLIPS)

    @cached_property
    def fingerprint(self) -> str:
        """Of a current value: it changes with the set's clips, and with the values read of any of them."""
        return self._looked_over[0]

    @cached_property
    def prints(self) -> Counter[str]:
        """Fingerprint that clips carry -> clips."""
        return self._looked_over[1]

    @cached_property
    def count(self) -> int:
        """Number of clips."""
        return self._looked_over[2]

    def __contains__(self, column: str) -> bool:
        return column in self._schema.names

    @cached_property
    def _looked_over(self) -> tuple[str, Counter[str], int]:
        """Read ids and fingerprints once, some at a time."""
        reads = sorted({self._print_of(n.column) for n in self._needs if n.column in self._producers})
        own = f"{self.annotator.name}_fingerprint"
        digest, found = SetDigest(), Counter[str]()
        for batch in self.scan([*reads, *([own] if own in self and own not in reads else [])]):
            digest.add([batch[name] for name in ("clip_id", *reads)])
            if own in self:
                counts = batch[own].drop_null().value_counts()
                found.update(dict(zip(*(pc.struct_field(counts, i).to_pylist() for i in (0, 1)), strict=True)))
        return fingerprint_with(self.annotator, {"clips": digest.hexdigest()}), found, digest.rows

    @cached_property
    def _filter(self) -> str | None:
        musts = [n.column for n in self._needs if not n.optional]
        if any(c not in self and c not in SOURCE_COLUMNS for c in musts):
            return "false"
        made = sorted({f"{self._print_of(c)} IS NOT NULL" for c in musts if c in self._producers})
        return " AND ".join(made) or None

    def _print_of(self, column: str) -> str:
        return f"{self._producers[column]}_fingerprint"


class MemberReader(ClipReader):
    """The members of a set that have a value in each required column, with their values."""

    def __init__(self, members: Members) -> None:
        self._members = members
        needs = stored_needs(members.annotator)
        self._wanted = [n.column for n in needs]
        self._musts = [n.column for n in needs if not n.optional]
        self._masks: list[pa.Array] = []  # per batch: which members are complete

    def __len__(self) -> int:
        return sum(pc.sum(mask).as_py() or 0 for mask in self.masks())

    def ids(self) -> Iterator[pa.Array]:
        """Yield the ids of all members, complete or not, batch by batch."""
        for batch in self._members.scan([]):
            yield batch["clip_id"].combine_chunks()

    def masks(self) -> list[pa.Array]:
        """Return which members of each batch are complete, bool [clips]."""
        if not self._masks:
            for _ in self.batches(self._musts):
                pass
        return self._masks

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield the complete members; the first whole pass reads the required columns, and notes which these are."""
        wanted = list(self._wanted if columns is None else columns)
        if self._masks:
            for values, mask in zip(self._values(wanted), self._masks, strict=True):
                yield values.filter(mask)
            return
        masks = []
        for _, mask, complete in self.looked_at(wanted):
            masks.append(mask)
            yield complete
        self._masks = masks

    def looked_at(self, columns: Sequence[str]) -> Iterator[tuple[pa.Array, pa.Array, pa.Table]]:
        """Yield for each batch the ids of all members, which of them are complete (bool), and these with columns."""
        for values in self._values(list(dict.fromkeys([*columns, *self._musts]))):
            mask = _all_valid(values, self._musts)
            yield values["clip_id"].combine_chunks(), mask, values.select(["clip_id", *columns]).filter(mask)

    def _values(self, wanted: Sequence[str]) -> Iterator[pa.Table]:
        """Yield all members with these columns; null where the store has no such column yet."""
        there = [c for c in wanted if c in self._members]
        sources = [c for c in wanted if c in SOURCE_COLUMNS]
        more = [PART_COLUMNS[c] for c in sources if PART_COLUMNS[c] in self._members]
        read = list(dict.fromkeys([*there, *more, *(["source_md5"] if sources else [])]))
        for batch in self._members.scan(read):
            columns = [self._column(batch, name) for name in wanted]
            yield pa.Table.from_arrays([batch["clip_id"], *columns], names=["clip_id", *wanted])

    def _column(self, batch: pa.Table, name: str) -> pa.ChunkedArray | pa.Array:
        if name not in SOURCE_COLUMNS:
            return batch[name] if name in batch.column_names else pa.nulls(len(batch))
        md5s, values = self._of_sources[name]
        found = values.take(pc.index_in(batch["source_md5"].combine_chunks(), md5s))
        part = PART_COLUMNS[name]
        return pc.coalesce(batch[part].combine_chunks(), found) if part in batch.column_names else found

    @cached_property
    def _of_sources(self) -> dict[str, tuple[pa.Array, pa.Array]]:
        """Column -> (md5 of each source, its value)."""
        found = {}
        for name in (c for c in self._wanted if c in SOURCE_COLUMNS):
            rows = self._members.store.read("sources", ["md5", SOURCE_COLUMNS[name]], filter="state = 'ok'")
            found[name] = rows.column(0).combine_chunks(), rows.column(1).combine_chunks()
        return found


def _all_valid(values: pa.Table, columns: Sequence[str]) -> pa.Array:
    valid = np.ones(len(values), bool)
    for name in columns:
        valid &= values[name].is_valid().to_numpy()
    return pa.array(valid)
