"""SQL from somebody else, such as a page: one SELECT over the store's tables, with nothing of this machine in reach.

Four walls, each enough for its purpose: DuckDB without file, network or extension access and with its settings
locked; one SELECT; in FROM only tables of the store and functions listed here; bounds on time, rows and memory.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from reelwright.curation.store.connection import Connection
from reelwright.curation.store.errors import StoreError, unknown_name
from reelwright.curation.store.schema import schemas
from reelwright.curation.store.sql import check_one_select, connect
from reelwright.curation.store.sql_errors import explain
from reelwright.curation.store.sql_views import VIEWS

CONFIG = {"enable_external_access": False, "temp_directory": "", "allow_community_extensions": False,
          "autoload_known_extensions": False, "threads": 2, "memory_limit": "1GB"}  # fmt: skip
TABLE_FUNCTIONS = frozenset({"range", "generate_series", "unnest", "json_each", "json_tree"})
AMPLIFIERS = frozenset({"repeat", "lpad", "rpad", "range", "generate_series", "list_resize", "array_resize", "bar",
                        "bitstring", "printf", "format"})  # fmt: skip
"""Scalar functions that make something huge from something short, outside DuckDB's own memory bound."""
FORBIDDEN = frozenset({"getvariable", "current_setting", "query", "query_table", "setseed", "write_log", "nextval",
                       "getenv", "parse_duckdb_log_message", "json_execute_serialized_sql"})  # fmt: skip


@dataclass(frozen=True)
class UntrustedResult:
    """rows: at most `max_rows`; is_cut: whether there were more."""

    rows: pa.Table
    is_cut: bool


def sql_untrusted(
    store: Connection, query: str, *, params: Any = None, max_rows: int = 1_000, timeout_s: float = 10.0
) -> UntrustedResult:
    """Run one SELECT of a stranger within bounds.

        found = sql_untrusted(store, "select clip_id from clips where blur_score > $x", params={"x": 100.0})

    Args:
        store: to read.
        query: one SELECT over the store's tables and views.
        params: values of `?` (a list) or `$name` (a dict).
        max_rows: rows returned at most.
        timeout_s: seconds it may take.

    Raises:
        StoreError: the query is wrong, too slow or not allowed.
    """
    import duckdb

    con = connect(store, config=CONFIG)
    con.execute("SET lock_configuration = true")
    is_late = threading.Event()
    timer = threading.Timer(timeout_s, _interrupt, (con, is_late))
    timer.start()
    try:
        check_one_select(con, query, pivot=False)
        check_reach(con, query)
        return _first_rows(con, query, params, max_rows)
    except (duckdb.Error, pa.ArrowException, OSError, MemoryError) as error:
        if is_late.is_set():
            raise StoreError(
                f"the query took longer than {timeout_s:g} s; narrow it, or run it with reel sql."
            ) from error
        raise explain(error, store, query) from error
    finally:
        timer.cancel()
        con.close()


def check_reach(con: Any, query: str) -> None:
    """Raise StoreError if `query` reads anything but tables, views and its own WITH, or calls a forbidden function."""
    tree = json.loads(con.execute("SELECT json_serialize_sql($q)", {"q": query}).fetchall()[0][0])
    if tree["error"]:
        raise StoreError(f"this query cannot be checked, so it is not run: {tree['error_message']}.")
    parts = list(_dicts(tree))
    own = {entry["key"].lower() for part in parts for entry in (part.get("cte_map") or {}).get("map", ())}
    known = {*schemas(), *VIEWS}
    in_from = [part["function"] for part in parts if part.get("type") == "TABLE_FUNCTION"]
    for part in parts:
        if part.get("type") == "BASE_TABLE":
            _check_table(part, known, own)
        elif part.get("type") == "TABLE_FUNCTION":
            _check_function(part["function"]["function_name"], TABLE_FUNCTIONS)
        elif part.get("class") == "FUNCTION" and not any(part is function for function in in_from):
            _check_scalar(part["function_name"])
        elif part.get("type") in ("SHOW_REF", "PIVOT"):
            raise StoreError(f"{part['type']} does not run here; write it as a SELECT, or run it with reel sql.")


def _check_table(part: dict[str, Any], known: set[str], own: set[str]) -> None:
    name = part["table_name"]
    if part.get("schema_name") or part.get("catalog_name") or name.lower() not in known | own:
        raise unknown_name(name, "table", known, see="reel tables")


def _check_function(name: str, allowed: frozenset[str]) -> None:
    if name.lower() not in allowed:
        raise StoreError(f"{name}(…) does not run here: a page's SQL reads the store's tables only.")


def _check_scalar(name: str) -> None:
    lowered = name.lower()
    if lowered in FORBIDDEN or lowered.startswith(("duckdb_", "pragma_", "pg_")):
        raise StoreError(f"{name}(…) does not run here: a page's SQL reads the store's tables only.")
    if lowered in AMPLIFIERS:
        raise StoreError(f"{name}(…) does not run here, since it can fill the memory; run it with reel sql.")


def _dicts(part: Any) -> Iterator[dict[str, Any]]:
    if isinstance(part, dict):
        yield part
        for value in part.values():
            yield from _dicts(value)
    elif isinstance(part, list):
        for value in part:
            yield from _dicts(value)


def _first_rows(con: Any, query: str, params: Any, max_rows: int) -> UntrustedResult:
    reader = con.sql(query, params=params).to_arrow_reader(min(max_rows + 1, 2_048))
    batches, count = [], 0
    for batch in reader:
        batches.append(batch)
        count += batch.num_rows
        if count > max_rows:
            break
    rows = pa.Table.from_batches(batches, reader.schema)
    reader.close()
    return UntrustedResult(rows.slice(0, max_rows), count > max_rows)


def _interrupt(con: Any, is_late: threading.Event) -> None:
    is_late.set()
    con.interrupt()
