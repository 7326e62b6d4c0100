"""Turn DuckDB's errors into sentences that name the store's own tables and columns."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from reelwright.curation.store.connection import Connection
from reelwright.curation.store.errors import StoreError, look_alikes, unknown_name
from reelwright.curation.store.schema import schemas, table_of
from reelwright.curation.store.sql_views import SOURCE_COLUMNS, UNDER_VIEW, VIEWS

NAMED = ("clips", "sources", "shots", "failures", "runs", "media")  # tables that a forgotten JOIN most often is about
FEW = 12  # columns that a sentence lists

UNKNOWN_COLUMN = (
    re.compile(r'Referenced column "(?P<column>[^"]+)" (?:was )?not found'),
    re.compile(r'(?:Table|Values list) "(?P<table>[^"]+)" does not have a column named "(?P<column>[^"]+)"'),
    re.compile(r"Cannot extract field '(?P<column>[^']+)' from expression \"(?P<table>[^\"]+)\""),
    re.compile(r'Column "(?P<column>[^"]+)" in (?:EXCLUDE|REPLACE|RENAME) list not found'),
    re.compile(r'Column ""?(?P<column>[^"]+)""? referenced in UNPIVOT'),
    re.compile(r'Column "(?P<column>[^"]+)" does not exist on (?:left|right) side of join'),
)


def explain(error: Exception, store: Connection, query: str = "") -> StoreError:
    """Make one sentence of DuckDB's error, with names that look like the wrong one.

    query: the text that failed; names are then looked for in its tables alone.
    """
    text = str(error)
    for pattern in UNKNOWN_COLUMN:
        if found := pattern.search(text):
            return _unknown_column(found["column"], found.groupdict().get("table"), store, query, _candidates(text))
    table = re.search(r"Table with name (\S+) does not exist", text)
    if table:
        return unknown_name(table[1], "table", [*schemas(), *VIEWS], see="reel tables")
    first = re.sub(r"\s+", " ", text.partition("\n\n")[0]).strip().rstrip(".!")
    where = re.search(r"LINE (\d+): (.*)", text)
    return StoreError(f"{first}{f' (line {where[1]}: {where[2].strip()})' if where else ''}.")


def columns_of(store: Connection, table: str) -> list[str]:
    """Return the names that SQL sees in a table or view of the store."""
    under = UNDER_VIEW.get(table, table)
    names = [n for n in store.schema(under).names if n not in table_of(under).payload]
    return [*names, *SOURCE_COLUMNS] if table == "clips_full" else names


def tables_of(query: str) -> dict[str, str]:
    """Find the store's tables and views that a query reads: alias (or name) in lower case -> table."""
    import duckdb

    known = {*schemas(), *VIEWS}
    with duckdb.connect(":memory:") as con:
        try:
            tree = json.loads(con.execute("SELECT json_serialize_sql($q)", {"q": query}).fetchall()[0][0])
        except (duckdb.Error, ValueError):
            tree = {}
    parts = [part for part in _dicts(tree) if part.get("type") == "BASE_TABLE"]
    found = {(part["alias"] or part["table_name"]).lower(): part["table_name"].lower() for part in parts}
    if not found:  # PIVOT and the like have no tree
        found = {word: word for word in words_of(query)}
    return {alias: table for alias, table in found.items() if table in known}


def words_of(query: str) -> list[str]:
    """Return the words of a query outside of strings, quoted names and comments, in lower case."""
    code = re.sub(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/", " ", query, flags=re.DOTALL)
    return re.findall(r"[a-z_]\w*", code.lower())


def _unknown_column(name: str, alias: str | None, store: Connection, query: str, candidates: list[str]) -> StoreError:
    """Look for it in the table that it was asked of, else in the tables of the query."""
    tables = tables_of(query)
    if alias is not None:
        tables = {alias: tables[alias.lower()]} if alias.lower() in tables else {}
    asked = list(dict.fromkeys(tables.values()))
    names = {table: columns_of(store, table) for table in asked}
    if not asked or any(name in columns for columns in names.values()):
        return _not_passed_on(name, alias, candidates)
    blamed = [table for table in asked if look_alikes(name, names[table])] or asked
    alike = look_alikes(name, dict.fromkeys(n for table in blamed for n in names[table]))
    hint = f"; columns that look alike: {', '.join(alike)}" if alike else ""
    here = {*asked, *(UNDER_VIEW.get(table, "") for table in asked)}
    elsewhere = [table for table in NAMED if table not in here and name in columns_of(store, table)]
    if elsewhere:
        hint += f"; {' and '.join(elsewhere)} {'has' if len(elsewhere) == 1 else 'have'} a column of that name"
    see = UNDER_VIEW.get(blamed[0], blamed[0])
    return StoreError(f"'{name}' is not a column of {' or '.join(blamed)}{hint}. See: reel describe {see}")


def _not_passed_on(name: str, alias: str | None, candidates: list[str]) -> StoreError:
    """Explain a column of a subquery or a WITH that the subquery does not return."""
    alike = look_alikes(name, candidates)
    shown = ", ".join(alike or candidates[:FEW])
    hint = f"; columns {'that look alike' if alike else 'there'}: {shown}" if shown else ""
    return StoreError(f"'{name}' is not a column of {alias or 'what this part of the query reads'}{hint}.")


def _candidates(text: str) -> list[str]:
    """Columns that DuckDB proposes."""
    found = re.search(r"Candidate bindings: :?(.*)", text)
    return re.findall(r'"(?:[^"]*\.)?([^".]+)"', found[1]) if found else []


def _dicts(part: Any) -> Iterator[dict[str, Any]]:
    if isinstance(part, dict):
        yield part
        for value in part.values():
            yield from _dicts(value)
    elif isinstance(part, list):
        for value in part:
            yield from _dicts(value)
