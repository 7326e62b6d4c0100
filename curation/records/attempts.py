"""How often something failed in earlier runs."""

from __future__ import annotations

from reelwright.curation.store import Store


class Attempts:
    """Counts of the table `failures`, read when they are first asked for."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[tuple[str, str, str | None], int] | None = None

    def of(self, uri: str, stage: str, clip_id: str | None) -> int:
        """Return how often this has failed before."""
        if self._known is None:
            self._known = {}
            for r in self._store.read("failures", ["uri", "stage", "clip_id", "attempts"]).to_pylist():
                key = (r["uri"], r["stage"], r["clip_id"])
                self._known[key] = max(self._known.get(key, 0), r["attempts"])
        return self._known.get((uri, stage, clip_id), 0)
