"""Evaluations as they lie in a store: found by name or id, their generations listed."""

from __future__ import annotations

from typing import Any

from reelwright.curation.store import Store, StoreError


def find_evaluation(store: Store, name: str) -> dict[str, Any]:
    """Return the row of an evaluation by its name, its id or the beginning of its id; of one name, the newest.

    Raises:
        StoreError: there is none, or there are several.
    """
    found = store.sql('SELECT * FROM evaluations WHERE name = ? ORDER BY "at" DESC LIMIT 1', params=[name]).to_pylist()
    if found:
        return found[0]
    query = 'SELECT * FROM evaluations WHERE starts_with(evaluation_id, ?) ORDER BY "at" DESC LIMIT 5'
    found = store.sql(query, params=[name.lower()]).to_pylist() if name.strip() else []
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(row["evaluation_id"] for row in found)
        raise StoreError(f"{name!r} begins the ids of several evaluations: {ids}; give more of it.")
    there = store.sql("SELECT DISTINCT name FROM evaluations ORDER BY name LIMIT 10").column(0).to_pylist()
    names = (
        f"; there are {', '.join(map(str, there))}" if there else "; make one with: reel evaluate RUN --prompts SUITE"
    )
    raise StoreError(f"no evaluation is called {name!r}{names}.")
