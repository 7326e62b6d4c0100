"""Small files that the commits of a run leave, merged at its end: each costs every later query and append a little."""

from __future__ import annotations

from typing import Any

from reelwright.curation.store import fragments
from reelwright.curation.store.connection import Connection
from reelwright.curation.store.datasets import FRAGMENT_ROWS, keep_index_fresh
from reelwright.curation.store.schema import CURATION_LOCK, tables

MANY = 64  # small files; 800 made a query 7 times slower


def merge_small_files(store: Connection, lock: str = CURATION_LOCK) -> list[str]:
    """Merge neighbours in tables with MANY small files or more; returns the tables.

    A merge is one commit: killed at any moment, it has happened or it has not. Snapshots keep the versions they pin.
    lock: of the tables: those of another may be in use by another run.
    """
    names = [table.name for table in tables().values() if table.has_small_appends and table.lock == lock]
    return [name for name in names if _is_in_pieces(store.dataset(name)) and _merge(store, name)]


def _is_in_pieces(dataset: Any) -> bool:
    return sum(f.physical_rows < FRAGMENT_ROWS // 2 for f in dataset.get_fragments()) >= MANY


def _merge(store: Connection, table: str) -> bool:
    with store.writing(table) as dataset:
        fragments.compact(dataset, target_rows=FRAGMENT_ROWS, deleted_share=0.1)
        dataset.checkout_latest()
        keep_index_fresh(dataset, table, wholly=True)
        dataset.checkout_latest()
    return True
