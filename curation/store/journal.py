"""Results on their way into `clips`: appended as they come, merged once there are enough of them.

A merge rewrites its columns for every fragment (65,536 rows) that it touches. A slow annotator that merged each half
minute would write a column hundreds of times over; appending 300 results writes 300 results. Appended results
are not lost: whoever annotates next merges first what a killed run left, and merging a result twice changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from reelwright.curation.store import datasets
from reelwright.curation.store.connection import Connection
from reelwright.curation.store.sql_text import literal

TABLE = "journal"
MERGE_ROWS = datasets.FRAGMENT_ROWS // 4  # of a maker: to merge so many writes about 4 times their bytes
MERGE_BYTES = 256 * 2**20  # of a maker's results: they are in memory while they are merged


class Journal:
    """The journal of a store, for the process that commits.

    A maker is the one who made results, such as "caption"; its results have the same columns.
    """

    def __init__(self, store: Connection) -> None:
        self.store = store
        self.rows: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        for row in store.read(TABLE, ["maker", "num_rows", "bytes"]).to_pylist():
            self._count(row["maker"], row["num_rows"], row["bytes"])

    def add(self, maker: str, rows: pa.Table, *, merge: bool = False) -> None:
        """Keep rows of `clips`: in the journal, or merged into the table together with all that this maker has there.

        Args:
            maker: name of the maker.
            rows: `clip_id` and the columns to set.
            merge: merge in any case, not only where it pays.
        """
        self._count(maker, rows.num_rows, rows.nbytes)
        if merge or self.rows[maker] >= MERGE_ROWS or self.bytes[maker] >= MERGE_BYTES:
            self._merge(maker, rows)
        else:
            self._note(maker, rows)

    def merge(self) -> int:
        """Merge all of the journal; return the number of results."""
        merged = self.rows.total()
        for maker in list(self.rows):
            self._merge(maker)
        return merged

    def _count(self, maker: str, rows: int, size: int) -> None:
        self.rows[maker] += rows
        self.bytes[maker] += size

    def _note(self, maker: str, rows: pa.Table) -> None:
        row = {"maker": maker, "num_rows": rows.num_rows, "bytes": rows.nbytes, "results": _to_bytes(rows)}
        with self.store.writing(TABLE) as dataset:
            datasets.append(dataset, datasets.to_table([row | {"at": datetime.now(UTC)}], TABLE, dataset.schema))

    def _merge(self, maker: str, more: pa.Table | None = None) -> None:
        """Merge a maker's journal into `clips`, then forget it: a crash in between merges it again."""
        noted = list(self._noted(maker))
        rows = pa.concat_tables([*noted, *([] if more is None else [more])])
        self.store.merge("clips", _newest(rows), on="clip_id")
        if noted:
            self._forget(maker)
        del self.rows[maker], self.bytes[maker]

    def _noted(self, maker: str) -> Iterator[pa.Table]:
        found = self.store.dataset(TABLE).to_table(columns=["results", "at"], filter=f"maker = {literal(maker)}")
        for results in found.sort_by("at").column("results"):
            yield pa.ipc.open_stream(results.as_buffer()).read_all()

    def _forget(self, maker: str) -> None:
        """With the files: no snapshot pins a journal, and nobody needs an old one."""
        with self.store.writing(TABLE) as dataset:
            dataset.delete(f"maker = {literal(maker)}")
            dataset.cleanup_old_versions(older_than=timedelta(0), delete_unverified=self.store.path is not None)


def _to_bytes(rows: pa.Table) -> bytes:
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(out, rows.schema) as stream:
        stream.write_table(rows)
    return out.getvalue().to_pybytes()


def _newest(rows: pa.Table) -> pa.Table:
    """Each clip's last result."""
    ids: Any = rows.column("clip_id").to_numpy()
    _, last = np.unique(ids[::-1].astype(str), return_index=True)
    return rows.take(pa.array(np.sort(len(ids) - 1 - last)))
