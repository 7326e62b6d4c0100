"""Values of the store as JSON holds them and as a page can show them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reelwright.curation.store.results import finite

MOST_LETTERS, MOST_ITEMS = 20_000, 64


def shown(value: Any, letters: int = MOST_LETTERS) -> Any:
    """Return a value that JSON holds and a page can show: long texts and lists are cut, bytes are their number."""
    if isinstance(value, str):
        return value if len(value) <= letters else value[:letters] + "…"
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if isinstance(value, list):
        cut = [shown(one, letters) for one in value[:MOST_ITEMS]]
        return [*cut, f"… {len(value):,} in all"] if len(value) > MOST_ITEMS else cut
    if isinstance(value, Mapping):
        return {str(name): shown(one, letters) for name, one in value.items()}
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return finite(value)
