"""What a store already has of a run's inputs: what is done, what a killed run left, how often a thing has failed."""

from collections import Counter
from collections.abc import Sequence

from curation.ingest import Input
from curation.store import Store
from pipelines.committer import sql_strings
from pipelines.recipe import CurateRecipe

DELETE_CHUNK = 1000


class History:
    """Read once when a run begins."""

    def __init__(self, store: Store, files: Sequence[Input], *, retry_failed: bool) -> None:
        self.store = store
        known = store.read("sources", ["uri", "source_id", "md5", "bytes", "mtime_ns", "state", "duplicate_of"])
        rows = {row["uri"]: row for row in known.to_pylist()}
        self.todo: list[Input] = []
        self.replaced: set[str] = set()  # uris with an old row that this run's row replaces
        self.done_before: Counter[str] = Counter()
        for item in files:
            row = rows.get(item.uri)
            if row is None:
                self.todo.append(item)
            elif row["state"] == "failed" and retry_failed:
                self.todo.append(item)
                self.replaced.add(item.uri)
                del rows[item.uri]
            else:
                self.done_before[row["state"]] += 1
        survivors = [r for r in rows.values() if r["state"] != "duplicate" and r["md5"]]
        self.by_md5 = {r["md5"]: r["uri"] for r in survivors}
        self.by_source_id = {r["source_id"]: r["uri"] for r in survivors if r["source_id"] != r["uri"]}
        self._clips: dict[str, str] = {}  # clip id -> fingerprint, of sources that a killed run left unfinished
        self._used: set[str] = set()
        self._attempts: dict[tuple[str, str, str | None], int] | None = None

    def clear_leftovers(self) -> None:
        """Note the clips that a killed run committed for sources it did not finish; drop what cannot be used."""
        lost = self.store.orphans()
        if not lost:
            return
        sources = lost.source_md5s
        for start in range(0, len(sources), DELETE_CHUNK):
            names = sql_strings(sources[start : start + DELETE_CHUNK])
            self.store.delete("shots", f"source_md5 IN ({names})")
            rows = self.store.read("clips", ["clip_id", "clips_fingerprint"], filter=f"source_md5 IN ({names})")
            self._clips |= {r["clip_id"]: r["clips_fingerprint"] for r in rows.to_pylist()}
        self._delete("media", [c for c in lost.clip_ids if c not in self._clips])

    def has_clip(self, clip_id: str, fingerprint: str) -> bool:
        """Whether a killed run has already cut this clip in this way."""
        found = self._clips.get(clip_id) == fingerprint
        if found:
            self._used.add(clip_id)
        elif clip_id in self._clips:  # cut in another way: it must go before its successor is committed
            self._delete("clips", [clip_id])
            self._delete("media", [clip_id])
            del self._clips[clip_id]
        return found

    def drop_unused_leftovers(self) -> None:
        """Delete clips that a killed run left and that this run's settings would not make."""
        unused = [c for c in self._clips if c not in self._used]
        self._delete("clips", unused)
        self._delete("media", unused)

    def attempts(self, uri: str, stage: str, clip_id: str | None) -> int:
        """How often this has failed before."""
        if self._attempts is None:
            rows = self.store.read("failures", ["uri", "stage", "clip_id", "attempts"]).to_pylist()
            self._attempts = {}
            for r in rows:
                key = (r["uri"], r["stage"], r["clip_id"])
                self._attempts[key] = max(self._attempts.get(key, 0), r["attempts"])
        return self._attempts.get((uri, stage, clip_id), 0)

    @staticmethod
    def fingerprint_of(stage: str, recipe: CurateRecipe) -> str:
        """What the failed step was: an annotator's own fingerprint, or the recipe's for cutting."""
        from annotate import load

        for name, params in recipe.annotator_params():
            if name == stage:
                return load(name, params).fingerprint
        return recipe.cutting_fingerprint

    def _delete(self, table: str, clip_ids: Sequence[str]) -> None:
        for start in range(0, len(clip_ids), DELETE_CHUNK):
            self.store.delete(table, f"clip_id IN ({sql_strings(clip_ids[start : start + DELETE_CHUNK])})")
