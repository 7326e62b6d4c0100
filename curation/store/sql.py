"""SQL over the store: DuckDB, with every table and a few views by name.

DuckDB asks Lance for the columns a query names and hands down the conditions it can. It does not put off reading wide
columns of rows that ORDER BY … LIMIT will drop, so `stream` does: see sql_late.py.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import pyarrow as pa

from reelwright.curation.store import sql_late
from reelwright.curation.store.connection import Connection
from reelwright.curation.store.datasets import missing_fields
from reelwright.curation.store.errors import StoreError
from reelwright.curation.store.schema import schemas, table_of
from reelwright.curation.store.sql_errors import explain, words_of
from reelwright.curation.store.sql_views import VIEWS, create_views, named_by

BATCH_ROWS = 8_192
CONFIG = {"python_enable_replacements": False, "autoinstall_known_extensions": False}
"""A name in a query is a table of the store, never a Python variable of this process; nothing is downloaded."""

ROWS_FROM = frozenset({"select", "from", "with", "pivot", "pivot_wider", "unpivot", "describe", "summarize"})
WRITES = frozenset({"insert", "update", "delete", "merge", "copy", "create", "export", "attach", "call", "execute"})
"""Words that begin a statement, and words that such a statement with a PIVOT inside must not have."""


def stream(store: Connection, query: str, *, params: Any = None, read_only: bool = True) -> pa.RecordBatchReader:
    """Run one query. Raises StoreError with a sentence for every mistake a person can make in one.

    params: values of `?` (a list) or `$name` (a dict). read_only: one SELECT and nothing else.
    """
    tables, views = named_by(query, schemas())
    con = connect(store, tables=tables, views=views)
    if params is None and (tables is None or sql_late.TABLE in tables):
        sql_late.shrink(con, store, query)
    return run(con, query, store, params=params, read_only=read_only)


def run(
    con: Any, query: str, store: Connection, *, params: Any = None, read_only: bool = True, close: bool = True
) -> pa.RecordBatchReader:
    """Run `query` on a connection from `connect`, read its rows as they come, then close the connection if `close`."""
    import duckdb

    try:
        if read_only:
            check_one_select(con, query)
        relation = con.sql(query, params=params)
        if relation is None:  # a statement without rows, such as COPY
            return pa.RecordBatchReader.from_batches(pa.schema([]), [])
        return _guarded(relation.to_arrow_reader(BATCH_ROWS), con, store, query, close)
    except (duckdb.Error, pa.ArrowException) as error:
        raise explain(error, store, query) from error


def connect(
    store: Connection,
    *,
    tables: Collection[str] | None = None,
    views: Collection[str] | None = None,
    versions: Mapping[str, int] | None = None,
    config: Mapping[str, Any] | None = None,
) -> Any:
    """Open a DuckDB connection with the store's tables and views.

    Args:
        store: has the tables.
        tables: names of the tables; default: all. On an object store each costs requests.
        views: names of the views; default: all where all tables are there, else none.
        versions: table -> the version to read; default: the newest.
        config: settings of DuckDB.
    """
    import duckdb

    from reelwright.curation.store.sql_scan import LanceScan  # loads pandas

    con = duckdb.connect(":memory:", config={**CONFIG, **(config or {})})
    for name in schemas():
        if tables is not None and name not in tables:
            continue
        version = (versions or {}).get(name) or store.dataset(name).version
        dataset = store.dataset(name, version)  # its own handle: it stays at this version while the query runs
        con.register(name, LanceScan(dataset, table_of(name).payload, absent=missing_fields(dataset, name)))
    if views or tables is None:
        create_views(con, VIEWS if views is None else views)
    return con


def check_one_select(con: Any, query: str, *, pivot: bool = True) -> None:
    """Raise StoreError unless `query` is one SELECT (WITH, FROM, VALUES, DESCRIBE and SUMMARIZE count as such).

    pivot: whether PIVOT may find its columns in the data, for which DuckDB first makes a type on the connection.
    """
    import duckdb

    statements = con.extract_statements(query)
    if len(statements) != 1:
        many = f"this text holds {len(statements)} statements" if statements else "this text holds none"
        raise StoreError(f"one query at a time, please: {many}.")
    kind, text = statements[0].type, statements[0].query  # the text without comments before it
    if kind == duckdb.StatementType.SELECT or _explains_a_select(con, text):
        return
    if pivot and kind == duckdb.StatementType.MULTI and _only_selects(text):
        return
    raise StoreError(
        f"only SELECT runs here, and this is {_first_word(text) or kind.name}; the store is changed by reel's commands."
    )


def _explains_a_select(con: Any, query: str) -> bool:
    """EXPLAIN, but not EXPLAIN ANALYZE, which runs its query."""
    import duckdb

    explained = re.match(r"\s*explain\s+(.*)", query, re.IGNORECASE | re.DOTALL)
    try:
        inner = con.extract_statements(explained[1]) if explained else []
    except duckdb.Error:
        return False
    return len(inner) == 1 and inner[0].type == duckdb.StatementType.SELECT


def _only_selects(query: str) -> bool:
    """Whether a statement with a PIVOT inside returns rows, rather than copy them to a file or make a table of them."""
    words = words_of(query)
    return bool(words) and words[0] in ROWS_FROM and not WRITES.intersection(words)


def _first_word(query: str) -> str:
    return next(iter(words_of(query)), "").upper()


def _guarded(
    reader: pa.RecordBatchReader, con: Any, store: Connection, query: str, close: bool
) -> pa.RecordBatchReader:
    """Return the same rows; explain mistakes found while running, and keep the connection until the end."""
    import duckdb

    def batches() -> Any:
        try:
            yield from reader
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            raise explain(error, store, query) from error
        finally:
            if close:
                con.close()

    return pa.RecordBatchReader.from_batches(reader.schema, batches())
