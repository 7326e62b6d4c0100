"""The selection to export: clips of a query or a snapshot with their columns, captions and bytes, as one stream."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from reelwright.curation.store import snapshot_query
from reelwright.curation.store.caption_columns import source_lists
from reelwright.curation.store.captions import Captions, Wanted
from reelwright.curation.store.errors import StoreError
from reelwright.curation.store.export.lengths import LONGEST, Lengths

if TYPE_CHECKING:
    from reelwright.curation.store.store import Store

BATCH_CLIPS = 1_000
SHARD_BYTES = 10**9
SAFE_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")  # no '.': WebDataset splits names at the first one
OWN_COLUMNS = pa.schema(
    [("caption", pa.string()), ("caption_kind", pa.string()), ("caption_variants", pa.list_(pa.string()))]
)
"""Columns that an export adds to a clip's, or puts in their place."""


@dataclass(frozen=True)
class Clip:
    """name: of its files, without extension. row: its columns, with those of OWN_COLUMNS. captions: all that it has."""

    name: str
    captions: Captions
    row: dict[str, Any]
    mp4: bytes

    @property
    def caption(self) -> str:
        """The best one; '' if it has none."""
        return self.captions.texts[0] if self.captions.texts else ""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height), px; 0 where the row does not say."""
        return int(_number(self.row.get("width"))), int(_number(self.row.get("height")))

    @property
    def num_frames(self) -> int:
        """Frames; 0 where the row does not say."""
        return int(_number(self.row.get("num_frames")))

    @property
    def fps(self) -> float:
        """Frames per second; 0 where the row does not say."""
        return _number(self.row.get("fps"))


@dataclass(frozen=True)
class ExportOptions:
    """How clips are written, whatever the format.

    Args:
        captions: which of a clip's captions; default: the best.
        max_frames: of the longest length that a trainer's settings name.
        shard_bytes: size at which a WebDataset shard is closed.
    """

    captions: Wanted = field(default_factory=Wanted)
    max_frames: int = LONGEST
    shard_bytes: int = SHARD_BYTES


@dataclass(frozen=True)
class Selection:
    """schema: of the rows. tables: streams them, each with its clip_id. versions: of clips, media and sources."""

    schema: pa.Schema
    tables: Callable[[], Iterator[pa.Table]]
    store: Store
    versions: dict[str, int]


@dataclass
class Export:
    """One export under way: `clips()` is read once; files go to `folder`, which becomes `final` at the end.

    Args:
        selection: its clips.
        folder: where its files are written.
        final: where the folder will be.
        options: see `ExportOptions`.
        notes: lines for the person who exports, on a trainer's use of it.
        chosen: (clip id, weight, name) of each clip.
        caption_kinds: kind of each clip's best caption -> clips.
        variant_kinds: kind of all captions -> captions.
        sizes: (width, height), px -> clips.
        lengths: (frames, frames per second) -> clips.
    """

    selection: Selection
    folder: Path
    final: Path
    options: ExportOptions = field(default_factory=ExportOptions)
    notes: list[str] = field(default_factory=list)
    chosen: list[tuple[str, float, str]] = field(default_factory=list)
    caption_kinds: Counter[str] = field(default_factory=Counter)
    variant_kinds: Counter[str] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    lengths: Lengths = field(default_factory=Counter)

    @property
    def schema(self) -> pa.Schema:
        """Arrow schema of the clips' rows."""
        own = OWN_COLUMNS.names
        return pa.schema([*(f for f in self.selection.schema if f.name not in own), *OWN_COLUMNS])

    @property
    def num_clips(self) -> int:
        """Number of clips."""
        return len(self.chosen)

    @property
    def empty_captions(self) -> int:
        """Number of clips without a caption."""
        return self.num_clips - self.caption_kinds.total()

    def clips(self) -> Iterator[Clip]:
        """Yield clips in the order of the query or snapshot, and count them."""
        selection, seen = self.selection, set[str]()
        self.options.captions.check(selection.schema)
        from_source = source_lists(selection.store, selection.versions["sources"]).by_md5()
        for table in selection.tables():
            ids = table.column("clip_id").to_pylist()
            media = selection.store.read_media(ids, version=selection.versions["media"])
            for row, (clip_id, mp4) in zip(table.to_pylist(), media, strict=True):
                if clip_id in seen:
                    raise StoreError(f"the query returns clip {clip_id} twice; return each clip once.")
                seen.add(clip_id)
                found = self.options.captions.of(row, from_source).best_first(self.options.captions.kinds)
                yield self._count(Clip(safe_name(clip_id), found, row | _own(found), mp4))

    def common_size(self, multiple: int = 16) -> tuple[int, int]:
        """Return the most frequent (width, height) in px, rounded down to multiples."""
        width, height = self.sizes.most_common(1)[0][0] if self.sizes else (960, 544)
        return max(multiple, width // multiple * multiple), max(multiple, height // multiple * multiple)

    def rates(self) -> Counter[float]:
        """Return frames per second, to two digits -> clips."""
        found: Counter[float] = Counter()
        for (_, fps), clips in self.lengths.items():
            found[round(fps, 2)] += clips
        return found

    def _count(self, clip: Clip) -> Clip:
        self.chosen.append((clip.row["clip_id"], _number(clip.row.get("weight")) or 1.0, clip.name))
        self.caption_kinds.update(clip.captions.kinds[:1])
        self.variant_kinds.update(clip.captions.kinds)
        if all(clip.size):
            self.sizes[clip.size] += 1
        if clip.num_frames and clip.fps:
            self.lengths[clip.num_frames, clip.fps] += 1
        return clip


def _number(value: Any) -> float:
    """Return a finite number above 0, or 0: a query may return anything under the name of a clip's column."""
    return float(value) if isinstance(value, int | float) and 0 < value < float("inf") else 0.0


def _own(found: Captions) -> dict[str, Any]:
    first = zip(found.texts, found.kinds, strict=True)
    text, kind = next(first, (None, None))
    return {"caption": text, "caption_kind": kind, "caption_variants": list(found.texts)}


def select(store: Store, *, sql: str | None, snapshot: str | None) -> Selection:
    """Select the clips of a query or a snapshot. Raises StoreError for both, neither, or a query without clip_id."""
    if (sql is None) == (snapshot is None):
        raise StoreError("an export takes either a query or a snapshot; give --sql or --snapshot.")
    if snapshot is not None:
        return _of_snapshot(store, snapshot)
    assert sql is not None
    return _of_query(store, sql)


def safe_name(clip_id: str) -> str:
    """Return the clip id if it is safe as a file name anywhere, otherwise a name made from its hash."""
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
    versions = {"clips": pinned.clips_version, "media": pinned.media_version, "sources": pinned.sources_version}
    return Selection(schema, lambda: store.snapshots.clips(name), store, versions)


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

    versions = {"clips": version, **{name: store.dataset(name).version for name in ("media", "sources")}}
    return Selection(schema, tables, store, versions)
