"""Late materialization for `SELECT … FROM clips WHERE … ORDER BY … LIMIT n`.

DuckDB reads every column a query names for every row its pushed conditions leave, so that sorting a million rows by
score drags a million captions and embeddings along. Here such a query runs twice: first for row ids alone, then, as it
was written, over just the rows found. Any query of another shape is left to DuckDB.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from reelwright.curation.store import datasets
from reelwright.curation.store.connection import Connection
from reelwright.curation.store.sql_views import ROW_ID, create_clips_full

MAX_ROWS = 100_000  # rows taken at once, in memory
TABLE = "clips"
SUFFIX = "_with_row_id"
FROM = ("clips", "clips_full")
SINGLE_ROW = frozenset({"COLUMN_REF", "CONSTANT", "STAR", "COMPARISON", "CONJUNCTION", "CAST", "BETWEEN", "CASE",
                        "OPERATOR"})  # fmt: skip
"""Classes of expression that look at one row and have no memory; a FUNCTION may be an aggregate or random()."""


def shrink(con: Any, store: Connection, query: str) -> bool:
    """Leave in `clips` of a connection just the rows that `query` can return, if its shape allows.

    Returns whether it did.
    """
    import duckdb

    from reelwright.curation.store.sql_scan import LanceScan  # loads pandas

    dataset = store.dataset(TABLE, store.dataset(TABLE).version)
    absent = datasets.missing_fields(dataset, TABLE)
    names = [*dataset.schema.names, *(f.name for f in absent)]
    ids_query = row_id_query(con, query, names)
    if ids_query is None:
        return False
    con.register(f"{TABLE}{SUFFIX}", LanceScan(dataset, with_row_id=True, absent=absent))
    if "clips_full" in query.lower():
        create_clips_full(con, SUFFIX)
    try:
        ids = con.sql(ids_query).to_arrow_table().column(0).combine_chunks()
    except duckdb.Error:
        return False  # the query as written will fail too, and name its mistake in the user's own words
    rows = dataset._take_rows(ids) if len(ids) else dataset.schema.empty_table()
    con.register(TABLE, datasets.with_nulls(rows, names, {f.name: f for f in absent}))
    return True


def row_id_query(con: Any, query: str, columns: list[str]) -> str | None:
    """Return SQL that finds the row ids of the rows of `query`, or None if the query's shape does not allow it."""
    import duckdb

    try:
        tree = json.loads(con.execute("SELECT json_serialize_sql($q)", {"q": query}).fetchall()[0][0])
        node = _eligible(tree, {c.lower() for c in columns})
        if node is None:
            return None
        tree["statements"][0]["node"] = _ids_only(node)
        text = con.execute("SELECT json_deserialize_sql($t)", {"t": json.dumps(tree)}).fetchall()[0][0]
        return str(text)
    except (duckdb.Error, KeyError, TypeError, IndexError, ValueError):
        return None


def _eligible(tree: dict[str, Any], columns: set[str]) -> dict[str, Any] | None:
    """Return the SELECT node, if its rows are rows of clips, picked by WHERE, ORDER BY columns and LIMIT alone."""
    if tree["error"] or len(tree["statements"]) != 1:
        return None
    node = tree["statements"][0]["node"]
    plain = (
        node["type"] == "SELECT_NODE"
        and not node["cte_map"]["map"]
        and node["from_table"]["type"] == "BASE_TABLE"
        and node["from_table"]["table_name"].lower() in FROM
        and not node["from_table"]["schema_name"]
        and not any(node[part] for part in ("group_expressions", "group_sets", "having", "sample", "qualify"))
        and node["from_table"]["sample"] is None
    )
    if not plain or not _limited(node["modifiers"], columns):
        return None
    expressions = [*node["select_list"], *([node["where_clause"]] if node["where_clause"] else [])]
    if not all(_looks_at_one_row(e) for e in expressions) or not _is_wide(node):
        return None
    return node


def _is_wide(node: dict[str, Any]) -> bool:
    """Return whether the query returns columns that WHERE and ORDER BY do not read anyway."""
    parts = list(_walk(node["select_list"]))
    if any(part["class"] == "STAR" for part in parts):
        return True
    read = _columns(node["where_clause"]) | _columns(node["modifiers"]) | {"clip_id"}
    return bool(_columns(node["select_list"]) - read)


def _columns(part: Any) -> set[str]:
    return {p["column_names"][-1].lower() for p in _walk(part) if p["class"] == "COLUMN_REF"}


def _limited(modifiers: list[dict[str, Any]], columns: set[str]) -> bool:
    """ORDER BY real columns, if any, and LIMIT a number (with or without OFFSET a number)."""
    if {m["type"] for m in modifiers} - {"ORDER_MODIFIER", "LIMIT_MODIFIER"}:
        return False
    limits = [m for m in modifiers if m["type"] == "LIMIT_MODIFIER"]
    orders = [o["expression"] for m in modifiers if m["type"] == "ORDER_MODIFIER" for o in m["orders"]]
    if len(limits) != 1 or limits[0].get("limit_type") != "ROW_COUNT":
        return False
    if not all(o["class"] == "COLUMN_REF" and o["column_names"][-1].lower() in columns for o in orders):
        return False
    return _number(limits[0]["limit"], None) + _number(limits[0]["offset"], 0) <= MAX_ROWS


def _number(expression: dict[str, Any] | None, default: int | None) -> int:
    if expression is None:
        return MAX_ROWS + 1 if default is None else default
    return int(expression["literal"]["text"])


def _looks_at_one_row(expression: dict[str, Any]) -> bool:
    return all(part["class"] in SINGLE_ROW for part in _walk(expression)) and not _renames(expression)


def _renames(expression: dict[str, Any]) -> bool:
    """Return whether an alias could hide the column that ORDER BY names."""
    return bool(expression.get("alias"))


def _walk(part: Any) -> Iterator[dict[str, Any]]:
    if isinstance(part, dict):
        if "class" in part:
            yield part
        for value in part.values():
            yield from _walk(value)
    elif isinstance(part, list):
        for value in part:
            yield from _walk(value)


def _ids_only(node: dict[str, Any]) -> dict[str, Any]:
    """SELECT _rowid with the same WHERE and ORDER BY, and LIMIT + OFFSET rows: the query itself applies its OFFSET."""
    found = copy.deepcopy(node)
    table = found["from_table"]
    table["alias"] = table["alias"] or table["table_name"]
    table["table_name"] += SUFFIX
    table["qualified_name"]["path"] = [table["table_name"]]
    found["select_list"] = [
        {"class": "COLUMN_REF", "type": "COLUMN_REF", "alias": "", "query_location": 0, "query_location_length": 0,
         "column_names": [ROW_ID]}
    ]  # fmt: skip
    for modifier in found["modifiers"]:
        if modifier["type"] == "LIMIT_MODIFIER" and modifier["offset"] is not None:
            total = _number(modifier["limit"], None) + _number(modifier["offset"], 0)
            modifier["limit"]["literal"]["text"] = str(total)
            modifier["offset"] = None
    return found
