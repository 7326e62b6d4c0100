"""The registry of tables: each table's columns with unit, meaning and maker, and how the store treats it.

A new table is one file under `store/tables/`, or one `register(Table(…))` in a module of any package that is imported
before the table is used. Nothing else lists tables by name: creation, SQL, compaction and clean-up ask `tables()`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import pyarrow as pa

from reelwright.curation.store.errors import unknown_name

TIMESTAMP = pa.timestamp("us", tz="UTC")
CURATION_LOCK = "curation"
MARKER = "sources"
"""The table made last when a store is created: where it is missing, there is no store."""

_registered: dict[str, Table] = {}


@dataclass(frozen=True)
class Table:
    """A table of the store.

    Args:
        name: of the table in SQL, and of its folder.
        columns: returns its Arrow fields in order; called once, when they are first needed.
        key: the column that may not be null, if any.
        payload: columns of bytes that SQL never sees: the store's own code reads them.
        payload_bytes: the column with the length of a row's payload.
        lock: the name of the commit lock that its writers take.
        rows_from: who writes its rows, where that is not `Store.append`; part of the error that says so.
        read_by: the call that reads its payload, for messages.
        is_core: whether every store has it. Any other table is created when it is first asked for.
        is_encoded: whether a row holds megabytes of tensors.
        has_id_index: whether `key` has an index for look-ups.
        has_small_appends: whether each commit of a run appends to it, so that its end merges small files.
    """

    name: str
    columns: Callable[[], Sequence[pa.Field]]
    key: str | None = None
    payload: tuple[str, ...] = ()
    payload_bytes: str = ""
    lock: str = CURATION_LOCK
    rows_from: str = ""
    read_by: str = ""
    is_core: bool = False
    is_encoded: bool = False
    has_id_index: bool = False
    has_small_appends: bool = False

    @cached_property
    def schema(self) -> pa.Schema:
        """Its Arrow schema as of this version of reelwright."""
        return pa.schema(list(self.columns()))

    @property
    def is_media(self) -> bool:
        """Whether its rows hold video files, which compaction moves only where most of a file's rows are deleted."""
        return self.payload == ("mp4",)


def field(name: str, type: pa.DataType, meaning: str, *, unit: str = "", computed_by: str = "") -> pa.Field:
    """Return a column with the facts for its readers.

    Args:
        name: of the column.
        type: Arrow type of its values.
        meaning: a phrase that `reel describe` shows.
        unit: of its values, if they have one.
        computed_by: the step or annotator that writes it.
    """
    facts = {"unit": unit, "meaning": meaning, "computed_by": computed_by}
    return pa.field(name, type, metadata={key: value for key, value in facts.items() if value})


def register(table: Table) -> Table:
    """Add a table to every store, and return it.

    Raises:
        ValueError: another table has its name.
    """
    if _registered.setdefault(table.name, table) is not table:
        raise ValueError(f"two tables are called {table.name!r}; rename one")
    return table


def tables() -> dict[str, Table]:
    """Return every table by its name, in the order in which a new store's tables are created."""
    _import_own()
    return dict(sorted(_registered.items(), key=lambda named: (named[0] == MARKER, named[0])))


def table_of(name: str) -> Table:
    """Return the table called `name`. Raises StoreError, with names that look alike, if there is none."""
    _import_own()
    if name not in _registered:
        raise unknown_name(name, "table", _registered, see="reel tables")
    return _registered[name]


def schemas() -> dict[str, pa.Schema]:
    """Return the Arrow schema of every table by its name."""
    return {name: table.schema for name, table in tables().items()}


@cache
def _import_own() -> None:
    """Import the files of `store/tables`; each registers its tables."""
    folder = importlib.import_module(f"{__package__}.tables")
    for module in pkgutil.iter_modules(folder.__path__):
        importlib.import_module(f"{folder.__name__}.{module.name}")
