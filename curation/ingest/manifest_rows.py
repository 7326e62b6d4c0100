"""A row of a list, and the names its columns are compared by."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SHORT = 64  # characters


@dataclass(frozen=True)
class Row:
    """A row of a list.

    Attributes:
        number: counted from 1.
        line: line at which it begins, in text files.
        values: by column, or the value that stands in place of a row; None where `error` gives the reason.
        chars: about so long it was, in text files.
    """

    number: int
    values: Any
    line: int | None = None
    error: str | None = None
    chars: int = 0

    @property
    def position(self) -> str:
        """The row's number and line, for a person to look it up."""
        return f"row {self.number}" + (f" (line {self.line})" if self.line is not None else "")


def column_name(name: Any) -> str:
    """Return a column's name as it is compared.

    Headers are written with spaces, in capitals, with a stray byte order mark.
    """
    return _short_name(name) if isinstance(name, str) and len(name) <= SHORT else _name(str(name))


@functools.lru_cache(maxsize=1024)  # each row of JSON Lines has them
def _short_name(name: str) -> str:
    return _name(name)


def _name(name: str) -> str:
    return "_".join(name.strip("\ufeff \t\r\n").casefold().replace("-", " ").split())


def named(row: Any) -> Any:
    """Rename a row's columns to the names they are compared by; of two that are alike the first stands."""
    if not isinstance(row, Mapping):
        return {"uri": row} if isinstance(row, str) else row
    found: dict[str, Any] = {}
    for name, value in row.items():
        found.setdefault(column_name(name), value)
    return found
