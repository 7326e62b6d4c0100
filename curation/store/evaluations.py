"""Evaluations by the names that people give them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reelwright.curation.store.errors import StoreError, unknown_name

if TYPE_CHECKING:
    from reelwright.curation.store import Store


def find_evaluation(store: Store, wanted: str) -> dict[str, Any]:
    """Return the row of an evaluation, by its name or the beginning of its id; empty: the only one.

    Raises:
        StoreError: there is none, or there are several.
    """
    rows = store.read("evaluations").to_pylist()
    if not rows:
        raise StoreError(
            "the store has no evaluation; make one: reel evaluate base=runs/a tuned=runs/b --prompts ours --store STORE"
        )
    named = [row for row in rows if row["name"] == wanted or not wanted]
    found = named or [row for row in rows if row["evaluation_id"].startswith(wanted)]
    if len(found) == 1:
        return found[0]
    names = sorted(row["name"] for row in rows)
    if found and not wanted:
        raise StoreError(f"the store has several evaluations; name one of {', '.join(names)}.")
    if found:
        raise StoreError(f"{wanted!r} begins the ids of {len(found)} evaluations; give more of it, or a name.")
    raise unknown_name(wanted, "known evaluation", names, see='reel sql "select name, models from evaluations"')
