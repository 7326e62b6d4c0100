"""A condition over clips that a person typed: shown to be one before anything else is done."""

from __future__ import annotations

from reelwright.curation.store import Store, StoreError


def validate_where(store: Store, where: str | None) -> str | None:
    """Return the condition once it is known to be one over `clips_full`; None for an empty one.

    Raises:
        StoreError: it is not.
    """
    where = (where or "").strip().rstrip(";")
    if not where:
        return None
    try:
        for condition in (where, f"({where}\n)"):  # "a) or (b" is none, though it is one between parentheses
            store.sql(f"SELECT 1 FROM clips_full WHERE {condition}\nLIMIT 0")
    except StoreError as error:
        raise StoreError(f"--where {where!r} is not a condition over clips: {error}") from error
    return where
