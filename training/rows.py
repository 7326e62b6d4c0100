"""A snapshot's rows as a plan wants them: the clips as they were pinned, with their captions."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Any

import pyarrow as pa

from curation.store import Store
from curation.store.snapshots import Snapshot
from training.errors import TrainError

CLIP_COLUMNS = ("width", "height", "fps", "num_frames", "source_md5")


def snapshot_rows(
    store: Store, name: str, caption_column: str = "captions", kinds: Collection[str] = ()
) -> pa.Table:
    """clip_id, weight, width, height, fps, num_frames, source_md5, captions (list of text, at least one) and
    only_composed (whether those are put together from measurements, none by a person or a model) of every clip.

    A clip's captions are those of `caption_column` (texts, or structs with a field `text`, and then only those whose
    `kind` is among `kinds`, if any are given); where it has none, its `caption`; where it has none, that of its
    source's manifest; else the empty caption. Columns that the store lacks count as empty.
    """
    snapshot = store.snapshots.show(name)
    known = store.dataset("clips", snapshot.clips_version).schema.names
    texts = [c for c in dict.fromkeys((caption_column, "caption")) if c in known]
    parts = list(store.snapshots.clips(name, [*CLIP_COLUMNS, *texts]))
    if not parts:
        raise TrainError(f"snapshot {name} has no clips; make one with: reel snapshot create NAME --sql '…'")
    rows = pa.concat_tables(parts).combine_chunks()
    captions, composed = _captions(store, snapshot, rows, texts, kinds)
    rows = rows.select(["clip_id", "weight", *CLIP_COLUMNS]).append_column("captions", captions)
    return rows.append_column("only_composed", composed)


def caption_note(rows: pa.Table) -> str:
    """How many clips of `snapshot_rows` have captions that say nothing of what is seen; empty if none has."""
    none = sum(captions == [""] for captions in rows.column("captions").to_pylist())
    composed = sum(rows.column("only_composed").to_pylist())
    if not none and not composed:
        return ""
    return (
        f"{none:,} of {len(rows):,} clips have no caption, {composed:,} only one composed from measurements, which "
        "does not say what is seen; docs/captioning.md makes better ones"
    )


def caption_hash(text: str) -> str:
    """Key of a caption's row in `texts`: 32 hex digits."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _captions(
    store: Store, snapshot: Snapshot, rows: pa.Table, columns: list[str], kinds: Collection[str]
) -> tuple[pa.Array, pa.Array]:
    """Texts, and whether all of them are composed."""
    sources = store.read("sources", ["md5", "caption"], "caption IS NOT NULL", version=snapshot.sources_version)
    of_source = dict(zip(*(sources.column(c).to_pylist() for c in ("md5", "caption")), strict=True))
    values = [rows.column(name).to_pylist() for name in columns]
    out, composed = [], []
    for i, md5 in enumerate(rows.column("source_md5").to_pylist()):
        found = [texts for value in values if (texts := _texts(value[i], kinds))]
        out.append(found[0] if found else _texts(of_source.get(md5)) or [""])
        cell = next((value[i] for value in values if _texts(value[i], kinds)), None)
        composed.append(cell is not None and not _texts(_uncomposed(cell), kinds))
    return pa.array(out, pa.list_(pa.string())), pa.array(composed, pa.bool_())


def _uncomposed(value: Any) -> list[Any]:
    items = value if isinstance(value, list) else [value]
    return [item for item in items if not isinstance(item, dict) or item.get("kind") != "composed"]


def _texts(value: Any, kinds: Collection[str] = ()) -> list[str]:
    """The captions in a cell: a text, a struct with a field `text`, or a list of either; empty ones left out."""
    items = value if isinstance(value, list) else [value]
    items = [i for i in items if not kinds or not isinstance(i, dict) or i.get("kind") in kinds]
    texts = ((item.get("text") if isinstance(item, dict) else item) for item in items)
    return list(dict.fromkeys(t for t in texts if isinstance(t, str) and t.strip()))
