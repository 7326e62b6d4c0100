"""The one process that writes to the store: collects rows from workers and commits them in batches.

Order makes a crash harmless: clip bytes first, then clip rows, then shots, and a source's own row last. A source
without its row is not done, and the next run finds its clips, and reuses or removes them.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from reelwright.curation.store import Store
from reelwright.curation.store.sql_text import literals
from reelwright.interrupts import held

REPLACE_CHUNK = 500
COMMIT_SHARE = 0.1
"""Of the driver's time, about, that commits may take: where clips are written faster, several files share a commit."""


@dataclass
class _Group:
    """Clips that one file of the media table will hold."""

    clip_ids: list[str] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    payloads: list[Any] = field(default_factory=list)
    bytes: int = 0


@dataclass
class _FinishedSource:
    row: dict[str, Any]
    shots: list[dict[str, Any]]
    after_group: int


class Committer:
    """Batches of one run."""

    def __init__(
        self,
        store: Store,
        write: Callable[[int, list[str], list[Any]], None],
        replaced: set[str],
        recut_md5s: set[str],
        *,
        commit_bytes: int,
        commit_s: float,
    ) -> None:
        """Collect rows for `store`.

        Args:
            store: Where the rows go.
            write: Starts the writing of a group of clips on a worker.
            replaced: Uris whose newest rows in `sources` are from an earlier run and give way to this one's.
            recut_md5s: Sources with rows in `shots` that give way likewise.
            commit_bytes: Bytes of clips after which a batch is committed.
            commit_s: Seconds after which it is.
        """
        self.store, self.write = store, write
        self.commit_bytes, self.commit_s = commit_bytes, commit_s
        self.replaced, self.recut_md5s = replaced, recut_md5s
        self.sources: list[_FinishedSource] = []
        self.failures: list[dict[str, Any]] = []
        self.times: dict[str, int] = {}
        self.groups: dict[int, _Group] = {}  # being written, by number
        self.unseen: dict[int, str] = {}  # groups that are written and not committed, number -> fragments
        self.commit_at = 0.0  # not before: a commit costs the more, the larger the store
        self.open, self.open_number = _Group(), 0
        self.opened_at = time.monotonic()
        self.committed: Counter[str] = Counter()  # sources by state, and `clips`: the work of a stopped run

    @property
    def is_holding(self) -> bool:
        """Whether anything waits to be committed that a worker may still have to write."""
        return bool(self.open.clip_ids or self.groups or self.sources)

    def add_clips(self, rows: Sequence[dict[str, Any]], payload: Any, num_bytes: int) -> None:
        """Rows of clips whose bytes are in `payload` (an ObjectRef), in the same order.

        Where a payload holds clips of several sources, hand it over for each of them, in order, with no flush between.
        """
        is_another = bool(self.open.payloads) and self.open.payloads[-1] is not payload
        if is_another and self.open.bytes >= self.commit_bytes:  # many tasks may end while a commit is made
            self._close()
        self.open.clip_ids += [row["clip_id"] for row in rows]
        self.open.rows += rows
        if not self.open.payloads or self.open.payloads[-1] is not payload:
            self.open.payloads.append(payload)
        self.open.bytes += num_bytes

    def add_source(self, row: dict[str, Any], shots: Sequence[dict[str, Any]] = ()) -> None:
        """Record a source that is done: all its clips were added."""
        self.sources.append(_FinishedSource(row | {"ingested_at": datetime.now(UTC)}, list(shots), self.open_number))

    def add_failure(self, row: dict[str, Any]) -> None:
        """Record a failure at the present time."""
        self.failures.append(row | {"at": datetime.now(UTC)})

    def add_time(self, uri: str, mtime_ns: int) -> None:
        """Record the new time of a file whose bytes did not change, or every run would read the file again."""
        self.times[uri] = mtime_ns

    def flush_if_due(self) -> None:
        """Close the open group once it is large or old enough, and commit what was written meanwhile."""
        due = time.monotonic() - self.opened_at >= self.commit_s
        if due or self.open.bytes >= self.commit_bytes:
            self._close()
        if due:
            self._commit_finished()
        if self.unseen and time.monotonic() >= self.commit_at:
            self._commit_written()

    def flush(self) -> None:
        """Close the open group, and commit whatever waits for no group that is still being written."""
        self._close()
        self._commit_written()
        self._commit_finished()

    def written(self, number: int, fragments: str) -> None:
        """Note that a worker wrote group `number`; it is committed soon, and with it the sources that waited for it."""
        self.unseen[number] = fragments
        self.groups[number].payloads.clear()  # Ray may forget the clips' bytes

    def _close(self) -> None:
        group, number = self.open, self.open_number
        self.open, self.open_number, self.opened_at = _Group(), number + 1, time.monotonic()
        if group.clip_ids:
            self.groups[number] = group
            self.write(number, group.clip_ids, group.payloads)

    def _commit_written(self) -> None:
        began, unseen = time.monotonic(), self.unseen
        if not unseen:
            return
        self.unseen = {}
        self.store.commit_media(unseen.values())
        rows = [row for number in unseen for row in self.groups[number].rows]
        with held():
            self.store.append("clips", rows)
            self.committed["clips"] += len(rows)
        for number in unseen:
            del self.groups[number]
        self._commit_finished()
        now = time.monotonic()
        self.commit_at = now + min((now - began) / COMMIT_SHARE, self.commit_s)

    def _commit_finished(self) -> None:
        still_writing = min([*self.groups, self.open_number])
        ready = [s for s in self.sources if s.after_group < still_writing]
        if ready:
            self.sources = [s for s in self.sources if s.after_group >= still_writing]
            self._drop("shots", "source_md5", [s.row["md5"] for s in ready if s.row["md5"] in self.recut_md5s])
            self.store.append("shots", [shot for s in ready for shot in s.shots])
        if self.failures:
            self.store.append("failures", self.failures)
            self.failures = []
        if ready:
            self._drop_replaced([s.row for s in ready if s.row["uri"] in self.replaced])
            with held():
                self.store.append("sources", [s.row for s in ready])
                self.committed.update(s.row["state"] for s in ready)
        if self.times:
            times = pa.table({"uri": list(self.times), "mtime_ns": list(self.times.values())})
            self.store.merge("sources", times, on="uri")
            self.times = {}

    def _drop_replaced(self, rows: list[dict[str, Any]]) -> None:
        """Delete rows that failed or were duplicates, and rows of the same bytes.

        A good version of other bytes keeps its row: without it, its clips would have no source.
        """
        for start in range(0, len(rows), REPLACE_CHUNK):
            some = rows[start : start + REPLACE_CHUNK]
            uris, md5s = (literals([r[key] or "" for r in some]) for key in ("uri", "md5"))
            self.store.delete("sources", f"uri IN ({uris}) AND (state <> 'ok' OR md5 IN ({md5s}))")

    def _drop(self, table: str, column: str, old: list[str]) -> None:
        for start in range(0, len(old), REPLACE_CHUNK):
            self.store.delete(table, f"{column} IN ({literals(old[start : start + REPLACE_CHUNK])})")
