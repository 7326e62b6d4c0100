"""Newest versions of tables on object stores that this process wrote or was told of: a listing may show older ones."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

_versions: dict[str, int] = {}  # uri of a table -> version
_guard = threading.Lock()


def note(table_uri: str, version: int) -> None:
    """Note that the table has this version."""
    if "://" in table_uri:
        with _guard:
            _versions[table_uri] = max(version, _versions.get(table_uri, 0))


def note_all(store: str, versions: Mapping[str, Any]) -> None:
    """Note the versions of a store's tables, as another process wrote them down."""
    for table, version in versions.items():
        if isinstance(version, int):
            note(f"{store}/{table}.lance", version)


def newest(table_uri: str) -> int:
    """Return the newest version of a table that is known; 0 for none."""
    return _versions.get(table_uri, 0)


def of_store(store: str) -> dict[str, int]:
    """Return table -> newest known version, of one store."""
    begins, ends = f"{store}/", ".lance"
    with _guard:
        known = list(_versions.items())
    return {
        uri[len(begins) : -len(ends)]: version
        for uri, version in known
        if uri.startswith(begins) and uri.endswith(ends) and "/" not in uri[len(begins) :]
    }
