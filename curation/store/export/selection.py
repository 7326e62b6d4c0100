"""What is exported: clips of a query or a snapshot with their columns and bytes, as one stream; and what came of it."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from curation.store import snapshot_query
from curation.store.errors import StoreError

if TYPE_CHECKING:
    from curation.store.store import Store

BATCH_CLIPS = 1_000
SAFE_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")  # no '.': WebDataset splits names at the first one


@dataclass(frozen=True)
class Clip:
    """name: of its files, without extension. row: its columns. caption: '' if it has none."""

    name: str
    caption: str
    row: dict[str, Any]
    mp4: bytes


@dataclass(frozen=True)
class ExportResult:
    """path: a URI as a text. empty_captions: clips exported with no text, since their caption is null, empty or not a
    column at all."""

    format: str
    path: Path | str
    clips: int
    bytes: int
    files: int
    empty_captions: int


@dataclass(frozen=True)
class Selection:
    """schema: of the rows. tables: streams them, each with its clip_id. version: of media."""

    schema: pa.Schema
    tables: Callable[[], Iterator[pa.Table]]
    store: Store
    version: int


@dataclass
class Export:
    """One export under way: `clips()` is read once; files go to `folder`, which becomes `final` at the end."""

    selection: Selection
    folder: Path
    final: Path
    shard_bytes: int
    num_clips: int = 0
    empty_captions: int = 0
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    frames: Counter[int] = field(default_factory=Counter)

    def clips(self) -> Iterator[Clip]:
        """Clips in the order of the query or snapshot, counted as they pass."""
        seen: set[str] = set()
        for table in self.selection.tables():
            ids = table.column("clip_id").to_pylist()
            media = self.selection.store.read_media(ids, version=self.selection.version)
            for row, (clip_id, mp4) in zip(table.to_pylist(), media, strict=True):
                if clip_id in seen:
                    raise StoreError(f"the query returns clip {clip_id} twice; return each clip once.")
                seen.add(clip_id)
                yield self._count(Clip(safe_name(clip_id), row.get("caption") or "", row, mp4))

    def common_size(self) -> tuple[int, int]:
        """(width, height) most clips have, in px, rounded down to multiples of 16."""
        width, height = self.sizes.most_common(1)[0][0] if self.sizes else (960, 544)
        return max(16, width // 16 * 16), max(16, height // 16 * 16)

    def common_frames(self, most: int = 81) -> int:
        """Largest 4n + 1 that the usual clip reaches, at most `most`: what causal video VAEs take."""
        usual = self.frames.most_common(1)[0][0] if self.frames else most
        return (max(1, min(usual, most)) - 1) // 4 * 4 + 1

    def result(self, format: str) -> ExportResult:
        files = [p for p in self.folder.rglob("*") if p.is_file()]
        size = sum(p.stat().st_size for p in files)
        return ExportResult(format, self.final, self.num_clips, size, len(files), self.empty_captions)

    def _count(self, clip: Clip) -> Clip:
        self.num_clips += 1
        self.empty_captions += not clip.caption.strip()
        if clip.row.get("width") and clip.row.get("height"):
            self.sizes[clip.row["width"], clip.row["height"]] += 1
        if clip.row.get("num_frames"):
            self.frames[clip.row["num_frames"]] += 1
        return clip


def select(store: Store, *, sql: str | None, snapshot: str | None) -> Selection:
    """The clips of one of the two. Raises StoreError for both, neither, or a query without clip_id."""
    if (sql is None) == (snapshot is None):
        raise StoreError("an export takes either a query or a snapshot; give --sql or --snapshot.")
    if snapshot is not None:
        return _of_snapshot(store, snapshot)
    assert sql is not None
    return _of_query(store, sql)


def safe_name(clip_id: str) -> str:
    """The clip id if it is safe as a file name anywhere, otherwise a name made from its hash."""
    if SAFE_NAME.fullmatch(clip_id):
        return clip_id
    return "clip-" + hashlib.sha256(clip_id.encode()).hexdigest()[:32]


def _of_snapshot(store: Store, name: str) -> Selection:
    pinned = store.snapshots.show(name)
    clips = store.dataset("clips", pinned.clips_version).schema
    own = store.schema("snapshot_rows")
    names = snapshot_query.clip_columns(store, pinned.clips_version)
    schema = pa.schema(
        [own.field(n) for n in ("clip_id", "weight", "position")]
        + [clips.field(n) for n in names if n not in ("clip_id", "weight", "position")]
    )
    return Selection(schema, lambda: store.snapshots.clips(name), store, pinned.media_version)


def _of_query(store: Store, sql: str) -> Selection:
    version = store.dataset("clips").version
    reader = store.sql_stream(sql)
    if reader.schema.names.count("clip_id") != 1:
        raise StoreError(
            f"an export's query has to return clip_id once; this one returns {', '.join(reader.schema.names)}."
        )
    clips = store.dataset("clips", version).schema
    names = [n for n in snapshot_query.clip_columns(store, version) if n not in reader.schema.names]
    schema = pa.schema([*reader.schema, *(clips.field(n) for n in names)])

    def tables() -> Iterator[pa.Table]:
        for batch in reader:
            for start in range(0, batch.num_rows, BATCH_CLIPS):
                rows = pa.Table.from_batches([batch.slice(start, BATCH_CLIPS)])
                yield snapshot_query.with_clip_columns(store, rows, names, clips_version=version)

    return Selection(schema, tables, store, store.dataset("media").version)
