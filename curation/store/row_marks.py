"""Which rows of a table are new since it was looked at: their ids are never used again, and Lance notes each change.

Lance keeps ids and versions of rows as ranges beside the columns: a look at a hundred million takes under a second.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from reelwright.curation.keys.row_set import RowSet

BATCH_ROWS = 65_536
SCAN_AHEAD, SCAN_BYTES = 2, 64 * 2**20  # batches decoded, and bytes fetched, before they are asked for
ROW_ID, ADDRESS, UPDATED = "_rowid", "_rowaddr", "_row_last_updated_at_version"
NONE = RowSet(np.zeros(0, np.int64), np.zeros(0, np.int64))


@dataclass(frozen=True)
class Mark:
    """A table as it was looked at: its version, and the ids of its rows."""

    version: int = 0
    rows: RowSet = NONE


@dataclass
class Changes:
    """What became of a table since a mark.

    Args:
        now: the mark for the next time.
        gone: rows that were deleted.
        added: rows that came.
        updated: rows of which a value was written anew.
        fragments: Lance's numbers of those with added or updated rows.
    """

    now: Mark
    gone: RowSet
    added: RowSet
    updated: RowSet
    fragments: set[int] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(len(self.gone) or self.fragments)


def changes(dataset: Any, since: Mark) -> Changes:
    """Compare a table with a mark, by the ids and versions of its rows."""
    live, added, updated, fragments = list[RowSet](), list[RowSet](), list[RowSet](), set[int]()
    for batch in scan(dataset, [UPDATED]):
        rows = batch.column(ROW_ID).to_numpy()
        live.append(RowSet.of(rows))
        known = since.rows.has(rows)
        later = known & (batch.column(UPDATED).to_numpy() > since.version)
        for mask, into in ((~known, added), (later, updated)):
            if mask.any():
                into.append(RowSet.of(rows[mask]))
                fragments |= set(np.unique(batch.column(ADDRESS).to_numpy()[mask] >> np.uint64(32)).tolist())
    now = RowSet.joined(live)
    gone = since.rows.minus(now)
    return Changes(Mark(dataset.version, now), gone, RowSet.joined(added), RowSet.joined(updated), fragments)


def fresh_rows(
    dataset: Any, found: Changes, columns: Sequence[str], *, updated: bool = False
) -> Iterator[pa.RecordBatch]:
    """Yield the rows that came, and the `updated` ones if wanted, with their ids as a column ROW_ID."""
    fragments = [one for one in dataset.get_fragments() if one.fragment_id in found.fragments]
    wanted = RowSet.joined([found.added, found.updated]) if updated else found.added
    if not fragments or not len(wanted):
        return
    for batch in scan(dataset, columns, fragments):
        mask = wanted.has(batch.column(ROW_ID).to_numpy())
        yield batch if mask.all() else batch.filter(pa.array(mask))


def scan(dataset: Any, columns: Sequence[str], fragments: list[Any] | None = None) -> Iterator[pa.RecordBatch]:
    """Yield rows in the table's order, with ROW_ID and ADDRESS. fragments: some of its; default: all."""
    yield from dataset.scanner(
        columns=list(columns), fragments=fragments, batch_size=BATCH_ROWS, batch_readahead=SCAN_AHEAD,
        io_buffer_size=SCAN_BYTES, with_row_id=True, with_row_address=True, scan_in_order=True,
    ).to_batches()  # fmt: skip
