"""Decisions that are kept: each is appended to `reviews` before it is acknowledged, and merged into clips after.

The table `reviews` has a lock of its own, so that people decide while a run of curation writes to clips. The columns
`review_*` of clips follow as soon as clips can be written; a server that was killed in between makes up for it.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from reelwright.curation.store import Store
from reelwright.curation.store.errors import StoreError
from reelwright.curation.store.tables.reviews import review_columns
from reelwright.errors import UserError
from reelwright.pipelines.app.columns import Column, Columns, Numbers, Texts, Words
from reelwright.pipelines.app.decisions import REDO, UNDO, Change, Ledger, Review

TABLE = "reviews"
MERGE_AFTER_S = 1.0
"""Quiet time before decisions are merged into clips: each merge is a version of clips, and people decide in series."""
RETRY_S = 5.0
"""Before the next try where another process writes to clips: such a run takes minutes, and a try reads its lock."""
LOCK_S = 10.0
"""That another server's append is waited for; it takes milliseconds, and seconds on a busy disk."""
REVIEW_COLUMN = "review_"
VERDICT_WORDS = ("drop", "keep")
UNDECIDED = Review()


class Reviews:
    """The decisions about the clips of a store.

    Args:
        store: to append to.
        columns: its clips.
    """

    def __init__(self, store: Store, columns: Columns) -> None:
        self.store, self._columns = store, columns
        self.names = tuple(f.name for f in review_columns())
        self.waiting = ""
        """Why decisions are not in the columns of clips yet; empty where nothing keeps them."""
        self._lock = threading.RLock()
        self._merging = threading.Lock()
        self._ledger = Ledger()
        self._version = -1
        self._arrays: tuple[Any, dict[str, Column]] | None = None
        self._pending: set[str] = set()
        self._wake = threading.Event()
        self._closed = threading.Event()
        self.refresh()
        self._pending |= self._unmerged()
        self._thread = threading.Thread(target=self._follow, name="reel-app-merge", daemon=True)
        self._thread.start()
        if self._pending:
            self._wake.set()

    # --- decisions -----------------------------------------------------------------------------------------------

    def decide(self, clip_ids: Sequence[str], change: Change, reviewer: str) -> dict[str, Any]:
        """Apply an action to clips; it is on disk when this returns."""
        with self._lock:
            known = self._columns.ids.take(pa.array(self._columns.rows_of(clip_ids))).to_pylist()

            def plan(at: datetime) -> tuple[dict[str, Review], str, int]:
                return self._ledger.plan(known, change, reviewer, at), "", 0

            return self._append(change.action, reviewer, plan)

    @staticmethod
    def fields() -> list[pa.Field]:
        """Return the columns of clips that decisions are."""
        return review_columns()

    def step_back(self, action: str, reviewer: str) -> dict[str, Any]:
        """Undo or redo a reviewer's last action."""

        def plan(at: datetime) -> tuple[dict[str, Review], str, int]:
            step, after, stays = self._ledger.plan_back(reviewer, action, at)
            return after, step.action_id, stays

        with self._lock:
            return self._append(action, reviewer, plan)

    def of(self, clip_id: str) -> Review:
        """Return the decisions about a clip."""
        return self._ledger.current.get(clip_id, UNDECIDED)

    def history(self, clip_id: str) -> list[dict[str, Any]]:
        """Return every action about a clip, the newest first."""
        from reelwright.curation.store.sql_text import literal

        columns = ["action", "reviewer", "verdict", "star", "tags", "caption", "at", "position"]
        return self.store.read(TABLE, columns, f"clip_id = {literal(clip_id)}").sort_by(
            [("position", "descending")]
        ).to_pylist()  # fmt: skip

    def steps(self, reviewer: str) -> dict[str, int]:
        """Return how many actions a reviewer can undo and redo."""
        history = self._ledger.histories.get(reviewer)
        return {UNDO: len(history.done), REDO: len(history.undone)} if history else {UNDO: 0, REDO: 0}

    def _append(
        self, action: str, reviewer: str, plan: Callable[[datetime], tuple[dict[str, Review], str, int]]
    ) -> dict[str, Any]:
        with self.store.committing(TABLE, wait_s=LOCK_S, is_brief=True):  # another server may append in this moment
            return self._append_locked(action, reviewer, plan)

    def _append_locked(
        self, action: str, reviewer: str, plan: Callable[[datetime], tuple[dict[str, Review], str, int]]
    ) -> dict[str, Any]:
        self.refresh()
        at = datetime.now(UTC)
        after, undone, stays = plan(at)
        action_id = uuid.uuid4().hex
        if after or undone:
            rows = _rows(after or {"": UNDECIDED}, self._ledger.position + 1)
            said = {"action_id": action_id, "reviewer": reviewer, "action": action, "undone": undone or None}
            self.store.append(TABLE, _with(rows, said, at))
            self._version = self.store.dataset(TABLE).version
            self._ledger.position += 1
            self._ledger.record(action_id, action, reviewer, after)
            self._patch(after)
            self._pending |= after.keys()
            self._wake.set()
        return {"action_id": action_id, "changed": len(after), "stays": stays, **self.steps(reviewer)}

    # --- as columns ----------------------------------------------------------------------------------------------

    def column(self, name: str) -> Column:
        """Return one of the columns `review_*`, with decisions that are not merged yet."""
        with self._lock:
            return self._current()[name]

    def tagged(self, tags: Sequence[Any]) -> np.ndarray:
        """Return which clips have one of `tags`, bool [N]; None: clips without any."""
        column = self.column("review_tags")
        assert isinstance(column, Words)
        known = [i for i, some in enumerate(column.words) if set(some) & set(tags)]
        mask = np.isin(column.codes, known)
        return mask | (column.codes < 0) if None in tags else mask

    def tag_counts(self, mask: np.ndarray) -> dict[str, Any]:
        """Count the tags of the clips in `mask`, as `facets.facet` counts words."""
        column = self.column("review_tags")
        assert isinstance(column, Words)
        each = np.bincount(column.codes[mask] + 1, minlength=len(column.words) + 1)
        counts: dict[str, int] = {}
        for some, count in zip(column.words, each[1:].tolist(), strict=True):
            for tag in some:
                counts[tag] = counts.get(tag, 0) + count
        values = [{"value": tag, "count": n} for tag, n in sorted(counts.items(), key=lambda one: (-one[1], one[0]))]
        return {"kind": "counts", "values": values[:100], "missing": int(each[0]), "more": max(0, len(values) - 100)}

    def _current(self) -> dict[str, Column]:
        key = self._columns.generation
        if self._arrays is None or self._arrays[0] != key:
            count = self._columns.count
            empty: dict[str, Column] = {
                "review_verdict": Words(np.full(count, -1, np.int32), VERDICT_WORDS),
                "review_star": Words(np.full(count, -1, np.int32), (False, True)),
                "review_tags": Words(np.full(count, -1, np.int32), ()),
                "review_by": Words(np.full(count, -1, np.int32), ()),
                "review_at": Numbers(np.full(count, np.nan)),
                "review_caption": Texts(pa.nulls(count, pa.string())),
                "review_caption_by": Words(np.full(count, -1, np.int32), ()),
            }
            self._arrays = (key, _patched(empty, self._columns, self._ledger.current))
        return self._arrays[1]

    def _patch(self, after: Mapping[str, Review]) -> None:
        if self._arrays is not None and self._arrays[0] == self._columns.generation:
            self._arrays = (self._arrays[0], _patched(self._arrays[1], self._columns, after))

    # --- the table and the columns of clips ----------------------------------------------------------------------

    def refresh(self) -> None:
        """Read the decisions of other servers."""
        with self._lock:
            dataset = self.store.dataset(TABLE)
            if dataset.version == self._version:
                return
            ledger = Ledger()
            rows = self.store.read(TABLE).sort_by([("position", "ascending")]).to_pylist()
            for position, some in _actions(rows):
                first = some[0]
                after = {row["clip_id"]: _review(row) for row in some if row["clip_id"]}
                ledger.record(first["action_id"], first["action"], first["reviewer"], after)
                ledger.position = position
            self._ledger, self._version, self._arrays = ledger, dataset.version, None

    def settle(self) -> bool:
        """Merge decisions into the columns of clips now, and return whether all are there."""
        with self._merging:
            with self._lock:
                pending = {one: self._ledger.current.get(one, UNDECIDED) for one in self._pending}
            if not pending:
                return True
            try:
                with self.store.committing(is_brief=True):  # a command that begins now waits for it
                    self.store.merge("clips", _as_columns(pending), on="clip_id")
            except (StoreError, OSError, RuntimeError, ValueError) as error:  # the disk, or a file that a clean-up took
                self.waiting = f"decisions are kept and wait to be written into clips: {error}"
                return False
            with self._lock:
                now = self._ledger.current
                self._pending -= {one for one, was in pending.items() if now.get(one, UNDECIDED) == was}
                self.waiting = ""
                return not self._pending

    def settle_for(self, sql: str) -> None:
        """Merge decisions before SQL reads them. Raises UserError where it would read columns that lack some."""
        if not self.settle() and REVIEW_COLUMN in sql.lower():
            raise UserError(f"{self.waiting} Until then SQL does not see them all; the filters beside the grid do.")

    def close(self) -> None:
        """Merge what is left, and stop following."""
        self._closed.set()
        self._wake.set()
        self._thread.join(timeout=30)
        self.settle()

    def _follow(self) -> None:
        while not self._closed.is_set():
            self._wake.wait()
            while self._wake.is_set() and not self._closed.is_set():  # decisions still come
                self._wake.clear()
                self._closed.wait(MERGE_AFTER_S)
            if not self._closed.is_set() and not self.settle():
                self._closed.wait(RETRY_S)
                self._wake.set()

    def _unmerged(self) -> set[str]:
        """Clips with columns that a server did not come to write."""
        current = self._ledger.current
        if not current:
            return set()
        there: dict[str, Any] = {}
        if {"review_at", "review_caption_by"} <= set(self.store.schema("clips").names):
            rows = self.store.read("clips", ["clip_id", "review_at"], "review_at IS NOT NULL")
            there = dict(zip(rows["clip_id"].to_pylist(), rows["review_at"].to_pylist(), strict=True))
        return {one for one, review in current.items() if there.get(one) != review.at}


def _rows(after: Mapping[str, Review], position: int) -> pa.Table:
    return pa.table({
        "clip_id": pa.array(after.keys(), pa.string()),
        "verdict": pa.array([one.verdict for one in after.values()], pa.string()),
        "star": pa.array([one.star for one in after.values()], pa.bool_()),
        "tags": pa.array([list(one.tags) for one in after.values()], pa.list_(pa.string())),
        "caption": pa.array([one.caption for one in after.values()], pa.string()),
        "position": pa.array([position] * len(after), pa.int64()),
    })  # fmt: skip


def _with(rows: pa.Table, said: Mapping[str, Any], at: datetime) -> pa.Table:
    for name, value in said.items():
        rows = rows.append_column(name, pa.array([value] * rows.num_rows, pa.string()))
    return rows.append_column("at", pa.array([at] * rows.num_rows, pa.timestamp("us", tz="UTC")))


def _review(row: Mapping[str, Any]) -> Review:
    tags = tuple(row["tags"] or ())
    return Review(row["verdict"], bool(row["star"]), tags, row["caption"], by=row["reviewer"] or "", at=row["at"])


def _actions(rows: Iterable[dict[str, Any]]) -> Iterable[tuple[int, list[dict[str, Any]]]]:
    """Group rows by their action."""
    import itertools

    for (position, _), some in itertools.groupby(rows, key=lambda row: (row["position"], row["action_id"])):
        yield position, list(some)


def _as_columns(reviews: Mapping[str, Review]) -> pa.Table:
    made = list(reviews.values())
    values: dict[str, list[Any]] = {
        "review_verdict": [one.verdict for one in made],
        "review_star": [one.star for one in made],
        "review_tags": [list(one.tags) for one in made],
        "review_caption": [one.caption for one in made],
        "review_caption_by": [one.caption_by or None for one in made],
        "review_by": [one.by for one in made],
        "review_at": [one.at for one in made],
    }
    arrays = [pa.array(list(reviews), pa.string()), *(pa.array(values[f.name], f.type) for f in review_columns())]
    return pa.Table.from_arrays(arrays, schema=pa.schema([pa.field("clip_id", pa.string()), *review_columns()]))


def _patched(arrays: Mapping[str, Column], columns: Columns, after: Mapping[str, Review]) -> dict[str, Column]:
    """Return new columns with the values of `after` in its clips' rows."""
    rows = columns.places_of(list(after))
    there = columns.ids.take(pa.array(rows)).to_pylist()
    made = [after[one] for one in there]
    found = dict(arrays)
    found["review_verdict"] = _words(arrays["review_verdict"], rows, [one.verdict for one in made])
    found["review_star"] = _words(arrays["review_star"], rows, [one.star for one in made])
    found["review_tags"] = _words(arrays["review_tags"], rows, [one.tags or None for one in made])
    signed = [one.caption_by or None for one in made]
    found["review_caption_by"] = _words(arrays["review_caption_by"], rows, signed)
    found["review_by"] = _words(arrays["review_by"], rows, [one.by for one in made])
    at = arrays["review_at"]
    assert isinstance(at, Numbers)
    times = at.values.copy()
    times[rows] = [one.at.timestamp() if one.at else np.nan for one in made]
    found["review_at"] = Numbers(times)
    found["review_caption"] = _texts(arrays["review_caption"], rows, [one.caption for one in made])
    return found


def _texts(column: Column, rows: np.ndarray, values: list[Any]) -> Texts:
    assert isinstance(column, Texts)
    if column.texts.null_count == len(column.texts) and not any(values):
        return column
    texts = column.texts.to_numpy(zero_copy_only=False).copy()
    texts[rows] = values
    return Texts(pa.array(texts, pa.string()))


def _words(column: Column, rows: np.ndarray, values: list[Any]) -> Words:
    assert isinstance(column, Words)
    place = {word: i for i, word in enumerate(column.words)}
    for value in values:
        if value is not None:
            place.setdefault(value, len(place))
    codes = column.codes.copy()
    codes[rows] = [-1 if value is None else place[value] for value in values]
    return Words(codes, tuple(place))
