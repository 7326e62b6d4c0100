"""Results on their way into `clips`: appended to the journal as they come, merged once there are enough of them.

A merge rewrites its columns for every fragment (65,536 rows) that it touches. A slow annotator that merged each half
minute would write a column hundreds of times over; appending 300 results writes 300 results. Nothing in the journal is
lost: the next run of `reel annotate` first merges the results that a killed run left, and merging a result twice
changes nothing.
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
MERGE_ROWS = datasets.FRAGMENT_ROWS // 4  # per maker: a merge of this many writes about 4 times their bytes
MERGE_BYTES = 256 * 2**20  # per maker: results are in memory while they are merged


class Journal:
    """The journal of a store, for the process that commits.

    A maker is an annotator, such as "caption"; all of its results have the same columns.
    """

    def __init__(self, store: Connection) -> None:
        self.store = store
        self.rows: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        for row in store.read(TABLE, ["maker", "num_rows", "bytes"]).to_pylist():
            self._count(row["maker"], row["num_rows"], row["bytes"])

    def add(self, maker: str, rows: pa.Table, *, merge: bool = False) -> None:
        """Append results to the journal, or merge them with the maker's earlier results once these are enough.

        Args:
            maker: the annotator.
            rows: rows of `clips`: `clip_id` and the columns to set.
            merge: merge now.
        """
        self._count(maker, rows.num_rows, rows.nbytes)
        if merge or self.rows[maker] >= MERGE_ROWS or self.bytes[maker] >= MERGE_BYTES:
            self._merge(maker, rows)
        else:
            self._append(maker, rows)

    def merge(self) -> int:
        """Merge all results of the journal. Returns their number."""
        merged = self.rows.total()
        for maker in list(self.rows):
            self._merge(maker)
        return merged

    def _count(self, maker: str, rows: int, size: int) -> None:
        self.rows[maker] += rows
        self.bytes[maker] += size

    def _append(self, maker: str, rows: pa.Table) -> None:
        row = {"maker": maker, "num_rows": rows.num_rows, "bytes": rows.nbytes, "results": _to_bytes(rows)}
        with self.store.writing(TABLE) as dataset:
            datasets.append(dataset, datasets.to_table([row | {"at": datetime.now(UTC)}], TABLE, dataset.schema))

    def _merge(self, maker: str, more: pa.Table | None = None) -> None:
        """Merge, then delete from the journal: a crash in between merges the same results again."""
        pending = list(self._pending(maker))
        rows = pa.concat_tables([*pending, *([] if more is None else [more])])
        self.store.merge("clips", _newest(rows), on="clip_id")
        if pending:
            self._delete(maker)
        del self.rows[maker], self.bytes[maker]

    def _pending(self, maker: str) -> Iterator[pa.Table]:
        """Yield results in the order in which they were noted: by the rows' ids, as hosts' clocks differ."""
        pending = self.store.dataset(TABLE).to_table(["results"], filter=f"maker = {literal(maker)}", with_row_id=True)
        for results in pending.sort_by("_rowid").column("results"):
            yield pa.ipc.open_stream(results.as_buffer()).read_all()

    def _delete(self, maker: str) -> None:
        """Delete a maker's results and their files: no snapshot pins a journal."""
        with self.store.writing(TABLE) as dataset:
            dataset.delete(f"maker = {literal(maker)}")
            dataset.cleanup_old_versions(older_than=timedelta(0), delete_unverified=self.store.path is not None)


def _to_bytes(rows: pa.Table) -> bytes:
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(out, rows.schema) as stream:
        stream.write_table(rows)
    return out.getvalue().to_pybytes()


def _newest(rows: pa.Table) -> pa.Table:
    """Return the last result of each clip."""
    ids: Any = rows.column("clip_id").to_numpy()
    _, last = np.unique(ids[::-1].astype(str), return_index=True)
    return rows.take(pa.array(np.sort(len(ids) - 1 - last)))
