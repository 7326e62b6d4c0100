"""Text that becomes part of SQL: the only place that quotes values and names."""

from __future__ import annotations

from collections.abc import Iterable


def literal(value: str) -> str:
    """Return a SQL string literal: `it's` becomes `'it''s'`."""
    return "'" + value.replace("'", "''") + "'"


def literals(values: Iterable[str]) -> str:
    """Return string literals joined by commas, for `IN (…)`."""
    return ", ".join(map(literal, values))


def identifier(name: str) -> str:
    """Return a quoted name of a column or table, for DuckDB: `a b` becomes `"a b"`."""
    return '"' + name.replace('"', '""') + '"'


def is_one_of(column: str, values: Iterable[str]) -> str:
    """Return the condition `column IN (…)`; values may be any text."""
    return f"{column} IN ({literals(values)})"
