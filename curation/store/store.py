"""`Store`: one curation database, with all that is built on its tables: SQL, media, snapshots, search and upkeep."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pyarrow as pa

from reelwright.curation.store import clip_media, datasets, encoded, generated, maintenance, small_files, sql, vectors
from reelwright.curation.store.connection import Connection
from reelwright.curation.store.describe import ColumnInfo, TableInfo, columns_info, table_info
from reelwright.curation.store.errors import writing_to
from reelwright.curation.store.maintenance import CleanupReport, Orphans
from reelwright.curation.store.schema import CURATION_LOCK, schemas
from reelwright.curation.store.snapshots import Snapshots


class Store(Connection):
    """A store: tables of sources, shots, clips and their facts. Open one with `Store.open`.

    Example:
        store = Store.open("demo/store")
        rows = store.sql("select clip_id, caption from clips where duration_s > 2").to_pandas()
        for clip_id, mp4 in store.read_media(row["clip_id"] for row in rows.to_dict("records")):
            ...
    """

    def tables(self) -> list[TableInfo]:
        """Return every table with its rows, version and bytes."""
        return [table_info(self.dataset(name), name) for name in sorted(schemas())]

    def describe(self, table: str) -> list[ColumnInfo]:
        """Return each column's meaning, unit and maker, the fingerprints it carries and the number of its nulls."""
        return columns_info(self.dataset(table), table)

    # --- SQL and search ------------------------------------------------------------------------------------------

    def sql(self, query: str, *, params: Any = None, read_only: bool = True) -> pa.Table:
        """Run DuckDB SQL over the tables and return its rows; `sql_stream` is for more rows than fit in memory.

            store.sql("select count(*) as clips from clips where duration_s > ?", params=[2.0])

        Args:
            query: one statement; tables and the views `clips_full` and `failures_latest` go by their names.
            params: values of `?` (a list) or of `$name` (a dict).
            read_only: allow one SELECT and nothing else.

        Raises:
            StoreError: the query is wrong; the sentence names columns and tables that look alike.
        """
        return self.sql_stream(query, params=params, read_only=read_only).read_all()

    def sql_stream(self, query: str, *, params: Any = None, read_only: bool = True) -> pa.RecordBatchReader:
        """Run a query as `sql` does and return a reader of its rows, which come as they are found.

        For SQL from somebody else, see `reelwright.curation.store.sql_untrusted`.
        """
        return sql.stream(self, query, params=params, read_only=read_only)

    def nearest(
        self, table: str, column: str, vector: Any, k: int, *, where: str | None = None,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:  # fmt: skip
        """Return the `k` rows nearest to a vector by cosine distance, nearest first; see `vectors.nearest`."""
        return vectors.nearest(self, table, column, vector, k, where=where, columns=columns)

    def index_vectors(self, table: str, column: str) -> bool:
        """Index a column of vectors where that pays and return whether it did; see `vectors.index_vectors`."""
        return vectors.index_vectors(self, table, column)

    # --- clip bytes ----------------------------------------------------------------------------------------------

    def write_media(self, clip_ids: Sequence[str], mp4s: Sequence[bytes]) -> str:
        """Write clips to uncommitted files, on a worker; return JSON for `commit_media`.

        Needs nothing but the uri: `Store(uri).write_media(…)` works without opening a table.
        """
        with writing_to(self.uri):
            return clip_media.write_fragments(self.table_uri("media"), clip_ids, mp4s, self.storage_options)

    def commit_media(self, fragments: Iterable[str]) -> None:
        """Make the files of `write_media` part of the store, in one commit of the committing process."""
        with self.writing("media") as dataset:
            clip_media.commit(dataset, fragments)
            datasets.keep_index_fresh(self.dataset("media"), "media")

    def read_media(
        self,
        clip_ids: Iterable[str],
        batch_bytes: int = clip_media.BATCH_BYTES,
        *,
        version: int | str | None = None,
    ) -> Iterator[tuple[str, bytes]]:
        """Yield (clip_id, mp4) in the order of `clip_ids`.

            ((_, mp4),) = store.read_media(["bf3e7310eaf5584edf03250a"])

        Args:
            clip_ids: of clips in `media`.
            batch_bytes: about the bytes in memory at a time.
            version: of `media`; default: the newest.

        Raises:
            StoreError: a clip has no media in this version.
        """
        return clip_media.read(self.dataset("media", version), clip_ids, batch_bytes)

    def open_media(self, clip_id: str) -> clip_media.OpenClip:
        """Open one clip of which parts are read, as a player asks for them.

        Raises:
            StoreError: the clip has no media.
        """
        return clip_media.open_clip(self.dataset("media"), clip_id)

    def with_media(self, clip_ids: Sequence[str], *, version: int | str | None = None) -> set[str]:
        """Return the clips among `clip_ids` that `media` has, at a version."""
        return set(clip_media.locate(self.dataset("media", version), clip_ids))

    # --- generated videos ----------------------------------------------------------------------------------------

    def add_generations(self, rows: Sequence[dict[str, Any]], mp4s: Mapping[str, bytes]) -> None:
        """Add rows of `generations` with their videos, in the committing process.

        Killed between its two commits, it leaves videos whose rows `complete_generations` adds.

        Args:
            rows: of `generations`; a generation is there once.
            mp4s: generation_id -> the video, of rows whose state is ok.
        """
        generated.add(self, rows, mp4s)

    def complete_generations(self) -> int:
        """Add the rows that a run killed between two commits left out; return their number. A run begins with it."""
        return generated.complete(self)

    def index_generated(self) -> None:
        """Make looking up a generation's video quick after many small commits. A run ends with it."""
        generated.index(self)

    def read_generated(self, generation_ids: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Yield (generation_id, mp4) in the order of `generation_ids`. Raises StoreError for one without a video."""
        return clip_media.read(self.dataset("generation_media"), generation_ids, table="generation_media")

    def open_generated(self, generation_id: str) -> generated.Video:
        """Return a generation's mp4 as a file that is read in ranges: a player asks for a few bytes at a time.

            video = store.open_generated("5f0c…"); video.size; video.read_range(0, 1024)

        Raises:
            StoreError: it has no video.
        """
        return generated.Video(self, generation_id)

    # --- latents and text states ---------------------------------------------------------------------------------

    def write_encoded(self, table: str, rows: Sequence[dict[str, Any]]) -> str:
        """Write rows of `latents` or `texts` to uncommitted files, on a worker.

        Returns:
            JSON for `commit_encoded`.
        """
        return encoded.write_fragments(self, table, rows)

    def commit_encoded(self, table: str, fragments: Iterable[str]) -> None:
        """Make the files of `write_encoded` part of `table`, in one commit of the committing process."""
        with self.writing(table) as dataset:
            clip_media.commit(dataset, fragments)

    def merge_encoded(self) -> None:
        """Merge the small files of many workers where that makes reading faster."""
        maintenance.merge_encoded(self)

    def reader(self, table: str, version: int | None = None) -> encoded.Reader:
        """Return a reader of `table` as it is now, or at a version, which reads rows by place from many threads."""
        return encoded.Reader(self, table, version)

    # --- snapshots and upkeep ------------------------------------------------------------------------------------

    @property
    def snapshots(self) -> Snapshots:
        """Frozen, named sets of clips.

        Example:
            store.snapshots.create("sharp", "select clip_id from clips where blur_score > 100")
            weights = store.snapshots.rows("sharp")
        """
        return Snapshots(self)

    def orphans(self) -> Orphans:
        """Return the rows that a crash left behind: their source never became ok."""
        return maintenance.orphans(self)

    def remove_orphans(self) -> Orphans:
        """Delete the rows that `orphans` finds, and return them.

        Call it when a run begins: during one, open batches look like orphans.
        """
        return maintenance.remove_orphans(self)

    def compact(self) -> None:
        """Merge small files of every table; bytes of media move only where most rows were deleted."""
        maintenance.compact(self)

    def merge_small_files(self, lock: str = CURATION_LOCK) -> list[str]:
        """Merge small files, where there are very many, of the tables that a run appends to.

        Args:
            lock: of the tables; default: those of curation.

        Returns:
            Names of the merged tables.
        """
        return small_files.merge_small_files(self, lock)

    def cleanup(self, older_than: timedelta = timedelta(days=7)) -> list[CleanupReport]:
        """Compact, then delete versions that no snapshot pins and files that no version has.

        See `maintenance.cleanup`.
        """
        return maintenance.cleanup(self, older_than)

    def delete_old_versions(self, older_than: timedelta = timedelta(days=7)) -> int:
        """Delete versions that no snapshot pins and files that no version has; return the bytes freed."""
        return maintenance.delete_old_versions(self, older_than)
