"""Upkeep of a store: finding leftovers of a crash, merging small files, deleting old versions.

None of it can break a snapshot: its versions of clips, media and sources carry Lance tags, which clean-up respects.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from reelwright.curation.store import fragments, lock
from reelwright.curation.store.connection import Connection
from reelwright.curation.store.datasets import FRAGMENT_ROWS, keep_index_fresh
from reelwright.curation.store.errors import StoreError, lance_reason
from reelwright.curation.store.fragments import INLINE_BYTES
from reelwright.curation.store.schema import CURATION_LOCK, schemas, table_of, tables
from reelwright.curation.store.snapshot_check import PINNED
from reelwright.curation.store.sql import connect
from reelwright.curation.store.sql_text import is_one_of

PLANS = "_plans"
"""Folder of a store for what training runs derive from it; nothing in it is needed."""
IDS_A_DELETE = 10_000
ORPHANS_MEMORY = "512MB"  # of DuckDB, which puts the rest on disk
ENCODED_FILE_BYTES = 2**30
NEW_TAG = timedelta(days=1)
"""Age up to which a snapshot's tag may be missing in an object store's list, hosts' clocks that differ included."""
MEDIA_REWRITE_SHARE = 0.5  # a media file moves only once this share of its rows is deleted


@dataclass(frozen=True)
class Orphans:
    """Rows of sources without state ok in `sources`: the open batch of a run that was killed.

    source_md5s: the sources they name. The rest counts rows.
    """

    source_md5s: list[str]
    clip_ids: list[str]
    clips: int
    shots: int
    media: int

    def __bool__(self) -> bool:
        return bool(self.clips or self.shots or self.media)


def orphans(store: Connection) -> Orphans:
    """Find them by id and md5: no clip bytes are read. A source's own row is written last, so its absence tells."""
    with tempfile.TemporaryDirectory(prefix="reel-orphans-") as folder:
        config = {"memory_limit": ORPHANS_MEMORY, "temp_directory": folder}
        return _orphans(connect(store, tables=("sources", "clips", "shots", "media"), config=config))


def _orphans(con: Any) -> Orphans:
    con.execute("CREATE TEMP TABLE ok AS SELECT DISTINCT md5 FROM sources WHERE state = 'ok'")
    con.execute(
        "CREATE TEMP TABLE lost_clips AS SELECT clip_id, source_md5 FROM clips c "
        "WHERE NOT EXISTS (SELECT 1 FROM ok WHERE ok.md5 = c.source_md5)"
    )
    con.execute(
        "CREATE TEMP TABLE lost_shots AS SELECT source_md5 FROM shots s "
        "WHERE NOT EXISTS (SELECT 1 FROM ok WHERE ok.md5 = s.source_md5)"
    )
    con.execute(
        "CREATE TEMP TABLE lost_media AS SELECT clip_id FROM media m "
        "WHERE NOT EXISTS (SELECT 1 FROM (SELECT clip_id FROM clips EXCEPT SELECT clip_id FROM lost_clips) c "
        "WHERE c.clip_id = m.clip_id)"
    )
    md5s = _column(con, "SELECT source_md5 FROM lost_clips UNION SELECT source_md5 FROM lost_shots")
    ids = _column(con, "SELECT clip_id FROM lost_clips UNION SELECT clip_id FROM lost_media ORDER BY 1")
    clips, shots, media = con.execute(
        "SELECT (SELECT count(*) FROM lost_clips), (SELECT count(*) FROM lost_shots), (SELECT count(*) FROM lost_media)"
    ).fetchall()[0]
    con.close()
    return Orphans(sorted(m for m in md5s if m is not None), ids, clips, shots, media)


def remove_orphans(store: Connection) -> Orphans:
    """Delete them: media first, since media are found through clips. Returns the deleted counts."""
    with store.committing():
        found = orphans(store)
        if found.media:
            _delete(store, "media", "clip_id", found.clip_ids)
        if found.clips:
            _delete(store, "clips", "source_md5", found.source_md5s)
            store.delete("clips", "source_md5 IS NULL")
        if found.shots:
            _delete(store, "shots", "source_md5", found.source_md5s)
        return found


def compact(store: Connection) -> None:
    """Merge small files, drop deleted rows from them, and bring the id indices up to date.

    A media file is rewritten only where half its rows or more are deleted; `merge_media` is for the rest.
    """
    for table in schemas():
        _compact_table(store, table)


def _compact_table(store: Connection, table: str) -> None:
    with store.writing(table) as dataset:
        if table_of(table).is_media:
            fragments.compact(dataset, target_rows=1, deleted_share=MEDIA_REWRITE_SHARE)
        elif table_of(table).is_encoded:
            fragments.compact(dataset, target_rows=_encoded_rows(dataset), deleted_share=0.1)
        else:
            fragments.compact(dataset, target_rows=FRAGMENT_ROWS, deleted_share=0.1)
        dataset.checkout_latest()
        keep_index_fresh(dataset, table, wholly=True)
        dataset.checkout_latest()


def merge_encoded(store: Connection) -> None:
    """Merge small files of `latents` and `texts` where tensors are in the rows: a fetch from many files is slow.

    Larger ones are left as workers wrote them: to copy them costs more than the files do. `compact` copies them.
    """
    for table in (name for name, kind in tables().items() if kind.is_encoded):
        with store.writing(table) as dataset:
            if _mean_bytes(dataset) <= INLINE_BYTES:
                fragments.compact(dataset, target_rows=_encoded_rows(dataset), deleted_share=0.1)
                dataset.checkout_latest()


def merge_media(store: Connection, rows_a_file: int = 16_384) -> None:
    """Merge small media files into larger ones, copying their bytes: for stores grown by very many tiny batches."""
    with store.writing("media") as dataset:
        fragments.compact(dataset, target_rows=rows_a_file, deleted_share=0.1)
        dataset.checkout_latest()
        keep_index_fresh(dataset, "media", wholly=True)
        dataset.checkout_latest()


def delete_old_versions(store: Connection, older_than: timedelta) -> int:
    """Delete versions that no tag pins and that have not been the newest for `older_than`.

    All files that no version has are deleted too, such as a killed run's; on object stores once they are a week old. A
    reader that began since then reads on. It holds every commit lock, so no run can be in the middle of writing.

    Args:
        store: the store.
        older_than: time since a version was replaced.

    Returns:
        Bytes freed.
    """
    with _all_locks(store):
        return sum(_drop_versions(store, table, older_than).bytes_removed for table in schemas())


@dataclass(frozen=True)
class CleanupReport:
    """Effect of `cleanup` on one table.

    Args:
        table: its name.
        files: number before and after.
        dropped: versions that are gone.
        kept: versions that a reader may have open; the newest is not counted.
        pinned: versions that snapshots need.
        freed: bytes.
    """

    table: str
    files: tuple[int, int]
    dropped: int
    kept: int
    pinned: int
    freed: int


def cleanup(store: Connection, older_than: timedelta) -> list[CleanupReport]:
    """Compact, then delete old versions, and return the effect on each table.

    Large tensors are not compacted: their copies would cost more than their files do. Plans of training runs that are
    older go too: they are made again where they are wanted. Raises StoreError while anybody writes.
    """
    with _all_locks(store):
        files = {table: len(store.dataset(table).get_fragments()) for table in schemas()}
        for name, table in tables().items():
            if not table.is_encoded:
                _compact_table(store, name)
        merge_encoded(store)
        _drop_plans(store, older_than)
        return [_clean(store, table, files[table], older_than) for table in schemas()]


def _clean(store: Connection, table: str, files: int, older_than: timedelta) -> CleanupReport:
    stats = _drop_versions(store, table, older_than)
    dataset = store.dataset(table)
    pinned = {tag["version"] for tag in dataset.tags.list().values()}
    kept = {v["version"] for v in dataset.versions()} - pinned - {dataset.version}
    after = len(dataset.get_fragments())
    return CleanupReport(table, (files, after), stats.old_versions, len(kept), len(pinned), stats.bytes_removed)


def _drop_plans(store: Connection, older_than: timedelta) -> None:
    """Delete plans beside the tables; runs that linked one keep it."""
    folder = store.path / PLANS if store.path is not None else None
    for plan in folder.iterdir() if folder is not None and folder.is_dir() else ():
        if time.time() - plan.stat().st_mtime >= older_than.total_seconds():
            shutil.rmtree(plan, ignore_errors=True)


@contextmanager
def _all_locks(store: Connection) -> Iterator[None]:
    if lock.is_held_here(store.uri, CURATION_LOCK):
        raise StoreError(
            "clean-up in the middle of a run would delete what its workers are writing; run it afterwards."
        )
    with ExitStack() as stack:
        for name in dict.fromkeys([CURATION_LOCK, "snapshots", *(table.lock for table in tables().values())]):
            stack.enter_context(store.committing(name))
        yield


def _drop_versions(store: Connection, table: str, older_than: timedelta) -> Any:
    """Lance goes by a version's age; a reader has the version that was the newest when it began, however old.

    Versions and tags are found by lists, which an object store may answer as they were. Files of a version that such
    a list hides are nobody's to Lance: those of the last week stay there (`delete_unverified`).
    """
    dataset = store.dataset(table)
    versions = dataset.versions()
    if dataset.version not in {v["version"] for v in versions}:
        raise StoreError(f"{store.table_uri(table)} was listed as it was some time ago; nothing of it was deleted. Run "
                         "the command again in a minute.")  # fmt: skip
    began = sorted(v["timestamp"] for v in versions)
    since = datetime.now(began[-1].tzinfo) - older_than
    kept = len(began) - outdated(began, since)
    try:
        return dataset.cleanup_old_versions(
            retain_versions=max(kept, _newly_pinned(store, table, dataset.version)),
            delete_unverified=store.path is not None,
            error_if_tagged_old_versions=False,
        )
    except (ValueError, OSError) as error:
        reason = lance_reason(error)
        raise StoreError(f"old versions of {store.table_uri(table)} cannot be deleted: {reason}.") from error


def _newly_pinned(store: Connection, table: str, newest: int) -> int:
    """Count the newest versions back to the first that a new snapshot pins: an object store's list may lack its tag."""
    if store.path is not None or table not in PINNED:
        return 0
    column = f"{table}_version"
    rows = store.read("snapshots", [column, "created_at"]).to_pylist()
    pinned = [r[column] for r in rows if datetime.now(r["created_at"].tzinfo) - r["created_at"] < NEW_TAG]
    return newest - min(pinned) + 1 if pinned else 0


def outdated(began: Sequence[datetime], since: datetime) -> int:
    """Count the versions of a table that were replaced before `since`. began: when each was made, in order."""
    return max(0, sum(at <= since for at in began) - 1)


def _encoded_rows(dataset: Any) -> int:
    return min(FRAGMENT_ROWS, max(1, int(ENCODED_FILE_BYTES // max(1.0, _mean_bytes(dataset)))))


def _mean_bytes(dataset: Any) -> float:
    sizes = dataset.to_table(columns=["bytes"]).column(0).to_numpy()
    return float(sizes.mean()) if len(sizes) else 0.0


def _delete(store: Connection, table: str, column: str, values: Sequence[str]) -> None:
    for start in range(0, len(values), IDS_A_DELETE):
        store.delete(table, is_one_of(column, values[start : start + IDS_A_DELETE]))


def _column(con: Any, query: str) -> list[Any]:
    return [row[0] for row in con.execute(query).fetchall()]
