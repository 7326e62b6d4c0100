"""reelwright: from raw footage to a trained video model.

The packages lie at the top of the repository; the links beside this file give them their one import name,
`reelwright.curation`, `reelwright.kernels` and so on, so that nothing bare comes into an environment.

from reelwright import Store
store = Store.open("store")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reelwright.lazy import lazy

if TYPE_CHECKING:
    from reelwright.curation.store.describe import ColumnInfo as ColumnInfo
    from reelwright.curation.store.describe import TableInfo as TableInfo
    from reelwright.curation.store.errors import StoreError as StoreError
    from reelwright.curation.store.results import write_result as write_result
    from reelwright.curation.store.snapshot_record import Snapshot as Snapshot
    from reelwright.curation.store.snapshot_record import SnapshotDiff as SnapshotDiff
    from reelwright.curation.store.store import Store as Store
    from reelwright.curation.store.untrusted import sql_untrusted as sql_untrusted
    from reelwright.errors import ReelError as ReelError

_HOME = {
    "ColumnInfo": "curation.store.describe",
    "ReelError": "errors",
    "Snapshot": "curation.store.snapshot_record",
    "SnapshotDiff": "curation.store.snapshot_record",
    "Store": "curation.store.store",
    "StoreError": "curation.store.errors",
    "TableInfo": "curation.store.describe",
    "sql_untrusted": "curation.store.untrusted",
    "write_result": "curation.store.results",
}

__all__ = list(_HOME)

if not TYPE_CHECKING:  # a checker would take any name for granted
    __getattr__, __dir__ = lazy(__name__, _HOME)
