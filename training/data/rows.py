"""A snapshot's rows as a schedule wants them: the clips as they were pinned, with their captions."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelwright.curation.store import Store
from reelwright.curation.store.captions import COMPOSED, LIST_COLUMN, Wanted, source_captions
from reelwright.curation.store.snapshot_record import Snapshot
from reelwright.training.errors import TrainError

HASHED_AT_A_TIME = 1 << 16  # captions that are Python objects at once
CLIP_COLUMNS = ("width", "height", "fps", "num_frames", "source_md5")


def snapshot_rows(store: Store, name: str, caption_column: str = LIST_COLUMN, kinds: Collection[str] = ()) -> pa.Table:
    """Return a row per clip of a snapshot.

    Columns: clip_id, weight, width, height, fps, num_frames, source_md5, captions (list of text, at least one) and
    only_composed (whether every caption is composed from measurements, by no person or model). Which captions, and in
    which order: see `curation.store.captions`; the empty one where there is none. Columns that the store lacks count as
    empty.
    """
    snapshot = store.snapshots.show(name)
    wanted = Wanted(caption_column, tuple(kinds))
    known = store.dataset("clips", snapshot.clips_version).schema.names
    texts = [*wanted.columns(known), *(c for c in (LIST_COLUMN, "composed_caption") if c in known)]
    parts = list(store.snapshots.clips(name, list(dict.fromkeys([*CLIP_COLUMNS, *texts]))))
    if not parts:
        raise TrainError(f"snapshot {name} has no clips; make one with: reel snapshot create NAME --sql '…'")
    rows = pa.concat_tables(parts).combine_chunks()
    captions, composed = _captions(store, snapshot, rows, wanted)
    rows = rows.select(["clip_id", "weight", *CLIP_COLUMNS]).append_column("captions", captions)
    return rows.append_column("only_composed", composed)


def caption_note(rows: pa.Table) -> str:
    """How many clips of `snapshot_rows` have captions that say nothing of what is seen; empty if none has."""
    captions, composed = rows.column("captions").combine_chunks(), rows.column("only_composed")
    single = pc.equal(pc.list_value_length(captions), 1)
    first = captions.flatten().take(
        pc.subtract(captions.offsets[1:], 1)
    )  # the last of each clip's, of which all have one
    empty = pc.and_(single, pc.equal(first, ""))
    none = pc.sum(empty).as_py() or 0
    drawn = pc.sum(pc.and_(composed, pc.invert(empty))).as_py() or 0
    if not none and not drawn:
        return ""
    left = (pc.sum(composed).as_py() or 0) - drawn
    unused = f" ({left:,} have a composed one: data.caption_kinds with composed in it takes that)" if left else ""
    return (
        f"{none:,} of {len(rows):,} clips have no caption{unused}, {drawn:,} only one composed from measurements, "
        "which does not say what is seen; docs/captioning.md makes better ones"
    )


def caption_hash(text: str) -> str:
    """Key of a caption's row in `texts`: 32 hex digits."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def caption_key(caption: str | bytes) -> str:
    """Return the hash of a caption that is given as text, or as the 16 bytes of its hash."""
    return caption.hex() if isinstance(caption, bytes) else caption_hash(caption)


def hashed(captions: pa.Array) -> pa.Array:
    """Return lists of captions as lists of their hashes, 16 bytes each."""
    kind, parts = pa.binary(16), []
    texts = captions.flatten()
    for start in range(0, len(texts), HASHED_AT_A_TIME):
        some = texts.slice(start, HASHED_AT_A_TIME).to_pylist()
        parts.append(pa.array([bytes.fromhex(caption_hash(text)) for text in some], kind))
    offsets = pa.array(np.concatenate([[0], np.cumsum(pc.fill_null(pc.list_value_length(captions), 0))]), pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.concat_arrays([pa.array([], kind), *parts]))


def _captions(store: Store, snapshot: Snapshot, rows: pa.Table, wanted: Wanted) -> tuple[pa.Array, pa.Array]:
    """Texts, and whether nothing but composed ones is there to draw."""
    of_source = source_captions(store, snapshot.sources_version)
    any_composed = Wanted(LIST_COLUMN, (COMPOSED,))
    columns = [c for c in rows.schema.names if c not in ("weight", *CLIP_COLUMNS) or c == "source_md5"]
    out, composed = [], []
    for row in rows.select(columns).to_pylist():
        found = wanted.of(row, of_source)
        out.append(list(found.texts) or [""])
        others = found if found.texts else any_composed.of(row, of_source)
        composed.append(bool(others.kinds) and set(others.kinds) == {COMPOSED})
    return pa.array(out, pa.list_(pa.string())), pa.array(composed, pa.bool_())
