"""The store: tables of sources, shots, clips and their facts, in LanceDB; SQL, snapshots and export over it.

The only package that knows Lance. Importing it costs nothing: names below are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reelwright.lazy import lazy

if TYPE_CHECKING:
    from reelwright.curation.store.describe import ColumnInfo as ColumnInfo
    from reelwright.curation.store.describe import TableInfo as TableInfo
    from reelwright.curation.store.errors import StoreError as StoreError
    from reelwright.curation.store.maintenance import CleanupReport as CleanupReport
    from reelwright.curation.store.maintenance import Orphans as Orphans
    from reelwright.curation.store.results import write_result as write_result
    from reelwright.curation.store.snapshot_record import Snapshot as Snapshot
    from reelwright.curation.store.snapshot_record import SnapshotDiff as SnapshotDiff
    from reelwright.curation.store.store import Store as Store
    from reelwright.curation.store.untrusted import sql_untrusted as sql_untrusted

_HOME = {
    "CleanupReport": "maintenance",
    "ColumnInfo": "describe",
    "Orphans": "maintenance",
    "Snapshot": "snapshot_record",
    "SnapshotDiff": "snapshot_record",
    "Store": "store",
    "StoreError": "errors",
    "TableInfo": "describe",
    "sql_untrusted": "untrusted",
    "write_result": "results",
}

__all__ = list(_HOME)

if not TYPE_CHECKING:  # a checker would take any name for granted
    __getattr__, __dir__ = lazy(__name__, _HOME)
