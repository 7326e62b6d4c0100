"""Table `journal`: results of annotators on their way into `clips`."""

from __future__ import annotations

import pyarrow as pa

from reelwright.curation.store.schema import TIMESTAMP, Table, field, register


def _columns() -> list[pa.Field]:
    return [
        field("maker", pa.string(), "annotators that made these results together"),
        field("num_rows", pa.int64(), "clips that there are results of", unit="clip"),
        field("bytes", pa.int64(), "length of the results", unit="byte"),
        pa.field("results", pa.large_binary(), metadata={"meaning": "rows to merge into clips: an Arrow IPC stream"}),
        field("at", TIMESTAMP, "when"),
    ]  # fmt: skip


TABLE = register(
    Table(
        "journal", _columns, key="maker", payload=("results",),
        rows_from="reelwright.curation.store.journal.Journal",
    )
)  # fmt: skip
