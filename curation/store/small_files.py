"""Small files that the commits of a run leave, merged at its end: each costs every later query and append a little."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reelwright.curation.store import fragments
from reelwright.curation.store.datasets import FRAGMENT_ROWS

if TYPE_CHECKING:
    from reelwright.curation.store.store import Store

APPENDED_TO = ("clips", "shots", "sources", "failures")  # by every commit of a run; clip bytes stay where they are
MANY = 64  # small files; 800 made a query 7 times slower


def merge_small_files(store: Store) -> list[str]:
    """Merge neighbours in tables with MANY small files or more; returns the tables.

    A merge is one commit: killed at any moment, it has happened or it has not. Snapshots keep the versions they pin.
    """
    return [table for table in APPENDED_TO if _is_in_pieces(store.dataset(table)) and _merge(store, table)]


def _is_in_pieces(dataset: Any) -> bool:
    return sum(f.physical_rows < FRAGMENT_ROWS // 2 for f in dataset.get_fragments()) >= MANY


def _merge(store: Store, table: str) -> bool:
    with store.writing(table) as dataset:
        fragments.compact(dataset, target_rows=FRAGMENT_ROWS, deleted_share=0.1)
        if dataset.list_indices():
            dataset.optimize.optimize_indices()
        dataset.checkout_latest()
    return True
