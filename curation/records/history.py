"""A store's history of a run's inputs: finished sources, leftovers of a killed run, counts of failures."""

import os
from collections.abc import Collection, Sequence
from typing import Any

from reelwright.curation.clips import with_spans
from reelwright.curation.ingest.collector import listing
from reelwright.curation.ingest.input_list import InputList
from reelwright.curation.ingest.inputs import Input, Inputs
from reelwright.curation.ingest.listing import Listing
from reelwright.curation.records.attempts import Attempts
from reelwright.curation.records.lookups import GoodRows, NewestRows, Row, Survivors, is_same
from reelwright.curation.records.moves import Move, Moves
from reelwright.curation.records.recaption import is_recaptioned
from reelwright.curation.records.settled import Settled
from reelwright.curation.results import Probed
from reelwright.curation.store import Store
from reelwright.curation.store.known_sources import KnownSources
from reelwright.curation.store.leftovers import leftovers, note_finished
from reelwright.curation.store.sql_text import literal, literals

DELETE_CHUNK = 1000
COLUMNS = ["uri", "source_id", "md5", "bytes", "mtime_ns", "state", "duplicate_of", "cutting_fingerprint",
           "licence", "caption", "captions", "spans", "num_clips", "no_clip_reason"]  # fmt: skip
UNREAD = "error LIKE 'io: %'"  # failures that say nothing of the file: it is tried again once it can be read
IMAGE = "error LIKE 'not_video: it is a picture%'"  # failures of a run that takes no still images
ROW = "#row "  # in the uri of a manifest's row that could not be used


class History:
    """Read once when a run begins. Inputs that need nothing are counted; a row is read of the others alone.

    retry_failed: try failed files again. recut: cut sources again that were cut under settings other than `cutting` (a
    fingerprint); otherwise it keeps its clips and is counted in `cut_otherwise`. keep_ids: files with one source_id and
    other bytes are videos of their own. images: still images are taken, also those refused before. Files that
    could not be read are tried again once they can be, whoever asks. files: sorted by uri.
    """

    def __init__(
        self,
        store: Store,
        files: Sequence[Input],
        cutting: str,
        *,
        retry_failed: bool = False,
        recut: bool = False,
        keep_ids: bool = False,
        images: bool = False,
    ) -> None:
        self.store, self.cutting, self.recut, self.keep_ids = store, cutting, recut, keep_ids
        self._again = f"({UNREAD} OR {IMAGE})" if images else UNREAD
        self._known = known = KnownSources(store, COLUMNS, cutting)
        self._settled = Settled(known, cutting, retry_failed=retry_failed, recut=recut, keep_ids=keep_ids)
        newest, good = NewestRows(known), GoodRows(known)
        several = known.rows(known.several)
        newest.learn(several)
        self.earlier = {  # good versions of files that have had other bytes since: their clips are in the store
            (r["uri"], r["md5"]): r for r in several if r["state"] == "ok" and not is_same(newest[r["uri"]], r)
        }
        files = listing(files)
        self.replaced: set[str] = set()  # uris whose newest row gives way to this run's; earlier good ones stay
        self.touched: dict[str, Row] = {}  # old rows of files whose size or time changed; the md5 will tell
        self.recut_md5s: set[str] = set()
        self.recut_uris: set[str] = set()
        self.recaptioned: list[Input] = []  # inputs whose manifest has other captions by now
        self.done_before, self.no_clip = self._settled.done_before, self._settled.no_clip
        """By state; and of sources that were ok before and gave no clip, by the reason."""
        self.done_md5s: set[str] = set()  # of sources that are ok and were looked at
        self.moves = Moves(good, _vacated(self.earlier, newest), files)
        self.cut_otherwise = 0
        rows, by_earlier = NewestRows(known, newest), dict[str, str]()
        for uri, md5 in self.earlier:
            by_earlier.setdefault(md5, uri)
        self.by_md5 = Survivors(known, "md5", rows, by_earlier)
        self.by_source_id = Survivors(known, "source_id", rows, {})
        self.todo = self._sort(files, rows, newest, retry_failed=retry_failed)
        self._left: dict[str, dict[str, str]] = {}  # source md5 -> clip id -> fingerprint, of sources to be cut (again)
        self.attempts = Attempts(store).of

    def _sort(self, files: Listing, rows: NewestRows, newest: NewestRows, *, retry_failed: bool) -> InputList:
        """Decide per file whether it is done, or to be read, or read again; return the latter.

        Args:
            files: This run's inputs.
            rows: Newest row per uri; loses those of files that are read as if they were new.
            newest: The same, as the store has them.
            retry_failed: Read failed files again.
        """
        incomplete, unread = self._incomplete(every=retry_failed), self._unread()
        self._settled.leave(incomplete, unread)
        self._lost = self._lost_clips(f" AND fingerprint = {literal(self.cutting)}")
        self._settled.watch(set(self._lost.values()))
        wanted, others = self._settled.sort(files)
        self.cut_otherwise += self._settled.cut_otherwise
        known = files.some(others)
        items = [item for _, item in known]
        newest.fetch(item.uri for item in items)
        repeats = [its for item in items if (its := newest[item.uri])["state"] == "duplicate"]
        newest.fetch(one["duplicate_of"] for one in repeats if one["duplicate_of"])
        self.moves.good.fetch(one["md5"] for one in repeats if one["md5"])
        moved = self._moved_survivors(items, rows)
        left = {row["uri"] for row in moved.values() if is_same(newest.get(row["uri"]), row)}
        again = []
        for number, item in known:
            row = rows.get(item.uri)
            if row is not None and row["state"] == "ok" and is_recaptioned(item, row):
                self.recaptioned.append(item)
            if item.uri in left:
                self.done_before["duplicate"] += 1
            elif row is None:
                again.append(number)
            elif item.uri in moved:
                again += [number] * self._moved(item, row, moved[item.uri], rows)
            elif row["state"] == "failed" and (
                retry_failed or _touched(row) or (item.uri in unread and is_readable(item.uri))
            ):
                again.append(number)
                self.replaced.add(item.uri)
                del rows[item.uri]
            elif _touched(row):
                again.append(number)
                self.touched[item.uri] = row
            elif self._stands_for_nothing(row, newest) or self._is_kept(row, newest):
                again.append(number)
                self.replaced.add(item.uri)
                del rows[item.uri]
            elif row["state"] == "ok" and self._is_cut_otherwise(item, row):
                again += [number] * self._cut_otherwise(item, row)
            elif row["state"] == "ok" and row["md5"] in incomplete and (retry_failed or is_readable(item.uri)):
                again.append(number)
                self._begin_again(item, row["md5"])
            else:
                self.note_done(row)
        wanted[again] = True
        return files.chosen(wanted)

    def _stands_for_nothing(self, row: Row, newest: NewestRows) -> bool:
        """Return whether a duplicate gave way to a file that then failed, and never was good."""
        survivor = newest.get(row["duplicate_of"]) if row["state"] == "duplicate" else None
        if survivor is None or survivor["state"] != "failed":
            return False
        return (survivor["uri"], row["md5"]) not in self.earlier

    def _is_kept(self, row: Row, newest: NewestRows) -> bool:
        """Return whether a duplicate is one by its id alone, and such files are kept now."""
        if not self.keep_ids or row["state"] != "duplicate":
            return False
        survivor = newest.get(row["duplicate_of"])
        return survivor is not None and row["md5"] != survivor["md5"]

    def id_of(self, item: Input) -> str | None:
        """Return the id by which an input may repeat another."""
        return None if self.keep_ids else item.source_id

    def forget_mended_rows(self, inputs: Inputs) -> None:
        """Delete sources that stand for a row of a manifest which could not be used, and now can be or is gone."""
        named = listing(inputs.files)
        for start in inputs.unread_columns:
            like = literals([start + ROW])
            rows = self.store.read("sources", ["uri"], filter=f"starts_with(uri, {like}) AND state = 'failed'")
            gone = [uri for uri in rows.column(0).to_pylist() if not named.has(uri)]
            for at in range(0, len(gone), DELETE_CHUNK):
                self.store.delete("sources", f"uri IN ({literals(gone[at : at + DELETE_CHUNK])})")

    def restored(self, uri: str, md5: str | None) -> dict[str, Any] | None:
        """Return the row of an earlier good version of a file, if these are its bytes again: its clips still exist."""
        if (uri, md5) not in self.earlier:
            return None
        names = literals([uri]), literals([md5 or ""])
        found = self.store.read("sources", filter=f"uri = {names[0]} AND md5 = {names[1]} AND state = 'ok'")
        return next(iter(found.to_pylist()), None)

    def _is_cut_otherwise(self, item: Input, row: dict[str, Any]) -> bool:
        return row["cutting_fingerprint"] != with_spans(self.cutting, item.spans)

    def _cut_otherwise(self, item: Input, row: Row) -> bool:
        """Return whether a source that was cut by other settings is cut again."""
        if self.recut:
            self._begin_again(item, row["md5"])
        else:
            self.cut_otherwise += 1
            self.note_done(row)
        return self.recut

    def note_done(self, row: dict[str, Any]) -> None:
        """Count a source that needs nothing, by its row."""
        self.done_before[row["state"]] += 1
        if row["state"] == "ok":
            self.done_md5s.add(row["md5"])
        if row["state"] == "ok" and row["num_clips"] == 0:
            self.no_clip[row["no_clip_reason"] or "no reason recorded"] += 1

    def _begin_again(self, item: Input, md5: str) -> None:
        self.replaced.add(item.uri)
        self.recut_uris.add(item.uri)
        self.recut_md5s.add(md5)

    def _begin_recut(self, item: Input, md5: str) -> None:
        self._begin_again(item, md5)
        self._note_clips(literals([md5]))

    def _moved_survivors(self, files: Sequence[Input], rows: NewestRows) -> dict[str, Row]:
        """Uri of an input that was a duplicate -> row of its survivor, whose file is gone: it takes its place.

        The first of several in order of uri. Only survivors on a disk are looked for: each costs a look.
        """
        found: dict[str, Row] = {}
        taken: set[str] = set()
        for item in files:
            row = rows.get(item.uri)
            if row is None or row["state"] != "duplicate" or "://" in (row["duplicate_of"] or "://") or _touched(row):
                continue
            survivor = self.moves.source_of(item.uri, row["md5"]) if row["md5"] not in taken else None
            if survivor is not None and is_readable(item.uri):
                taken.add(row["md5"])
                found[item.uri] = survivor
        return found

    def _moved(self, item: Input, row: Row, survivor: Row, rows: NewestRows) -> bool:
        """Note that a source is at another address; return whether it is cut again there."""
        is_otherwise = self._is_cut_otherwise(item, survivor)
        there = Probed(row["md5"], row["bytes"], row["mtime_ns"])
        move = self.moves.add(survivor, item, there, is_recut=is_otherwise and self.recut)
        rows[item.uri] = survivor | {"uri": item.uri}
        if is_same(rows.get(move.old), survivor):
            if self.by_source_id.get(survivor["source_id"]) == move.old and survivor["source_id"] != item.uri:
                self.by_source_id[survivor["source_id"]] = item.uri
            del rows[move.old]
        self.by_md5[move.md5] = item.uri
        self.earlier.pop((move.old, move.md5), None)
        if move.is_recut:
            self._begin_again(item, row["md5"])
        else:
            self.cut_otherwise += is_otherwise
            self.note_done(survivor)
        return move.is_recut

    def take_over(self, item: Input, probed: Probed) -> Move | None:
        """In the middle of a run: note that a file just read is where a source is now, if that source's own is gone."""
        row = self.moves.source_of(item.uri, probed.md5)
        if row is None:
            return None
        is_otherwise = self._is_cut_otherwise(item, row)
        move = self.moves.add(row, item, probed, is_recut=is_otherwise and self.recut)
        self.by_md5[move.md5] = item.uri
        if self.by_source_id.get(row["source_id"]) == move.old:
            self.by_source_id[row["source_id"]] = item.uri
        self.earlier.pop((move.old, move.md5), None)
        if move.is_recut:
            self._begin_recut(item, move.md5)
        elif self.moves.inputs.has(move.old) and not move.is_vacated:  # counted as ok, and is a duplicate now
            self.done_before["duplicate"] += 1
        else:
            self.cut_otherwise += is_otherwise
            self.note_done(row)
        return move

    def _unread(self) -> set[str]:
        """Uris whose last failure as a whole file was that it could not be read."""
        whole = "clip_id IS NULL AND stage IN ('probe', 'scan', 'cut')"
        newest = f'GROUP BY uri HAVING arg_max(({self._again}), "at")'
        found = self.store.sql(f"SELECT uri FROM failures WHERE {whole} {newest}")
        return set(found.column(0).to_pylist())

    def clips_failed_before(self) -> int:
        """Clips of this run's sources that could not be cut in earlier runs, by the settings of this one."""
        return sum(md5 in self.done_md5s or self._settled.is_done(md5) for md5 in self._lost.values())

    def _incomplete(self, *, every: bool) -> set[str]:
        """Return the MD5s of sources that are ok, but for clips that could not be cut.

        every: whatever the reason; else only where the file could not be read then.
        """
        return set(self._lost_clips("" if every else f" AND {UNREAD}").values())

    def _lost_clips(self, condition: str) -> dict[str, str]:
        """Clip id -> source md5 of clips that could not be cut, and were not since. condition: on their failures."""
        missing = f"stage = 'cut' AND clip_id IS NOT NULL{condition}"
        rows = self.store.read("failures", ["source_md5", "clip_id"], filter=missing)
        lost = {r["clip_id"]: r["source_md5"] for r in rows.to_pylist()}
        ids = list(lost)
        for start in range(0, len(ids), DELETE_CHUNK):
            names = literals(ids[start : start + DELETE_CHUNK])
            for clip_id in self.store.read("clips", ["clip_id"], filter=f"clip_id IN ({names})").column(0).to_pylist():
                del lost[clip_id]
        return lost

    def clear_leftovers(self) -> None:
        """Note the clips that a killed run committed for sources it did not finish; drop those that cannot be used.

        Clips of sources that are re-cut are treated alike: clips that the new settings would make the same are kept.
        """
        again = sorted(self.recut_md5s)
        for start in range(0, len(again), DELETE_CHUNK):
            self._note_clips(literals(again[start : start + DELETE_CHUNK]))
        lost = leftovers(self.store, self._known.index)
        if not lost:
            return
        sources = lost.source_md5s
        for start in range(0, len(sources), DELETE_CHUNK):
            names = literals(sources[start : start + DELETE_CHUNK])
            self.store.delete("shots", f"source_md5 IN ({names})")
            self._note_clips(names)
        kept = {c for clips in self._left.values() for c in clips}
        self._delete("media", [c for c in lost.clip_ids if c not in kept])

    def _note_clips(self, md5s: str) -> None:
        columns = ["clip_id", "source_md5", "clips_fingerprint"]
        for row in self.store.read("clips", columns, filter=f"source_md5 IN ({md5s})").to_pylist():
            self._left.setdefault(row["source_md5"], {})[row["clip_id"]] = row["clips_fingerprint"]

    def left_of(self, source_md5: str) -> dict[str, str] | None:
        """Return the clips of a source that the store has from before, id -> fingerprint; None if it has none."""
        return self._left.get(source_md5)

    def reuse(self, source_md5: str, planned: Collection[str], fingerprint: str) -> set[str]:
        """Return which of a source's clips are there already, cut in this way; all others that it has are deleted.

        It comes before anything of the source is committed, so that a source that is ok has no clips but its own. A
        source that is re-cut loses its row first: killed from here on, it is one that was not finished.
        """
        if source_md5 in self.recut_md5s:
            self.store.delete("sources", f"md5 = '{source_md5}' AND state = 'ok'")
        left = self._left.pop(source_md5, {})
        wanted = set(planned) if left else set[str]()
        same = {c for c, made_by in left.items() if made_by == fingerprint and c in wanted}
        self._drop([c for c in left if c not in same])
        return same

    def drop_unused_leftovers(self) -> None:
        """Delete clips that a killed run left of sources that this run did not cut, and that are not ok."""
        self._drop([c for md5, clips in self._left.items() if md5 not in self.recut_md5s for c in clips])
        self._left.clear()

    def note_finished(self) -> None:
        """Note in the store that a run finished: the next looks for leftovers among newer rows alone."""
        note_finished(self.store, self.cutting)

    def drop_clips_of(self, source_md5s: Collection[str]) -> None:
        """Delete the clips of sources that turned out to be none."""
        if source_md5s:
            found = self.store.read("clips", ["clip_id"], filter=f"source_md5 IN ({literals(list(source_md5s))})")
            self._drop(found.column(0).to_pylist())
            self.store.delete("shots", f"source_md5 IN ({literals(list(source_md5s))})")

    def _drop(self, clip_ids: Sequence[str]) -> None:
        self._delete("clips", clip_ids)
        self._delete("media", clip_ids)

    def _delete(self, table: str, clip_ids: Sequence[str]) -> None:
        for start in range(0, len(clip_ids), DELETE_CHUNK):
            self.store.delete(table, f"clip_id IN ({literals(clip_ids[start : start + DELETE_CHUNK])})")


def _touched(row: dict[str, Any]) -> bool:
    """Return whether a local file's size or time differs from the store's record; remote files count as unchanged."""
    if "://" in row["uri"] or row["mtime_ns"] is None:
        return False
    try:
        status = os.stat(row["uri"])
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) != (row["bytes"], row["mtime_ns"])


def is_readable(uri: str) -> bool:
    """Return whether a local file opens and gives a byte, or is empty; a remote one is asked when it is read."""
    if "://" in uri:
        return True
    try:
        if not os.path.isfile(uri):
            return False
        with open(uri, "rb") as file:
            file.read(1)
        return True
    except OSError:
        return False


def _vacated(earlier: Collection[tuple[str, str]], rows: NewestRows) -> set[tuple[str, str]]:
    """Return (uri, MD5) of good files that have had other bytes since: the old bytes."""
    return {(uri, md5) for uri, md5 in earlier if rows[uri]["md5"] not in (None, md5)}
