"""A snapshot's rows as a schedule wants them: the clips as they were pinned, with their captions."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelwright.curation.store import Store
from reelwright.curation.store.caption_columns import caption_lists, source_lists
from reelwright.curation.store.captions import COMPOSED, LIST_COLUMN, Wanted
from reelwright.training.data.spool import stretches
from reelwright.training.errors import TrainError

HASHED_AT_A_TIME = 1 << 16  # captions that are Python objects at once
HASH = pa.binary(16)
EMPTY_HASH = pa.scalar(hashlib.blake2b(b"", digest_size=16).digest(), HASH)
CLIP_COLUMNS = ("width", "height", "fps", "num_frames", "source_md5")


def snapshot_rows(store: Store, name: str, caption_column: str = LIST_COLUMN, kinds: Collection[str] = ()) -> pa.Table:
    """Return `row_batches` of a snapshot as one table in memory."""
    return pa.concat_tables(row_batches(store, name, caption_column, kinds)).combine_chunks()


def row_batches(
    store: Store,
    name: str,
    caption_column: str = LIST_COLUMN,
    kinds: Collection[str] = (),
    *,
    more: Sequence[str] = (),
    hashes: bool = False,
) -> Iterator[pa.Table]:
    """Yield a row per clip of a snapshot, in any order, some at a time.

    Columns: clip_id, weight, width, height, fps, num_frames, source_md5, captions (list of text, at least one) and
    only_composed (whether every caption is composed from measurements, by no person or model). Which captions, and in
    which order: see `curation.store.captions`; the empty one where there is none. Columns that the store lacks count as
    empty. more: further columns of clips. hashes: of the captions, in place of texts.
    """
    snapshot = store.snapshots.show(name)
    wanted = Wanted(caption_column, tuple(kinds))
    known = store.dataset("clips", snapshot.clips_version).schema.names
    texts = [*wanted.columns(known), *(c for c in (LIST_COLUMN, "composed_caption") if c in known)]
    if not snapshot.num_clips:
        raise TrainError(f"snapshot {name} has no clips; make one with: reel snapshot create NAME --sql '…'")
    of_source = source_lists(store, snapshot.sources_version)
    for rows in store.snapshots.clip_batches(name, list(dict.fromkeys([*CLIP_COLUMNS, *texts, *more]))):
        found = caption_lists(rows, wanted, of_source)
        others = caption_lists(rows, Wanted(LIST_COLUMN, (COMPOSED,)), of_source)
        composed = np.where(found.there, found.composed, others.composed)
        captions = _one_at_least(found.texts)
        own = rows.select(["clip_id", "weight", *CLIP_COLUMNS])
        own = own.append_column("captions", hashed(captions) if hashes else captions)
        own = own.append_column("only_composed", pa.array(composed))
        for column in more:
            own = own.append_column(column, rows.column(column))
        yield own


def _one_at_least(lists: pa.Array) -> pa.Array:
    """Give empty lists the empty caption."""
    counts = np.diff(lists.offsets.to_numpy())
    if counts.all():
        return lists
    texts = pa.concat_arrays([lists.values, pa.array([""], lists.type.value_type)])
    starts = np.cumsum(np.maximum(counts, 1)) - np.maximum(counts, 1)
    at = np.full(int(np.maximum(counts, 1).sum()), len(lists.values))
    at[np.repeat(starts, counts) + np.arange(len(lists.values)) - np.repeat(np.cumsum(counts) - counts, counts)] = (
        np.arange(len(lists.values))
    )
    return pa.ListArray.from_arrays(pa.array(np.append(starts, len(at)), pa.int32()), texts.take(pa.array(at)))


def caption_note(rows: pa.Table) -> str:
    """How many clips of `snapshot_rows` have captions that say nothing of what is seen; empty if none has."""
    none = drawn = composed = 0
    for here in stretches(len(rows)):
        counts = _told(rows.slice(here.start, here.stop - here.start))
        none, drawn, composed = none + counts[0], drawn + counts[1], composed + counts[2]
    if not none and not drawn:
        return ""
    left = composed - drawn
    unused = f" ({left:,} have one composed from measurements, which data.caption_kinds leaves out)" if left else ""
    parts = [f"{none:,} of {len(rows):,} clips have no caption that is drawn, and train on the empty one{unused}"]
    parts += [f"{drawn:,} of {len(rows):,} clips have only a caption composed from measurements, not from the picture"]
    told = "; ".join(part for part, count in zip(parts, (none, drawn), strict=True) if count)
    return f"{told}; to caption them, see docs/captioning.md"


def _told(rows: pa.Table) -> tuple[int, int, int]:
    """Clips whose caption is the empty one, those that draw a composed one alone, and those that have no other."""
    captions, composed = rows.column("captions").combine_chunks(), rows.column("only_composed")
    values, last = captions.flatten(), pc.cumulative_sum(pc.list_value_length(captions))
    nothing = EMPTY_HASH if values.type == HASH else pa.scalar("", values.type)
    is_empty = pc.equal(values.take(pc.subtract(last, 1)), nothing)  # each clip has one
    empty = pc.and_(pc.equal(pc.list_value_length(captions), 1), is_empty)
    drawn = pc.and_(composed, pc.invert(empty))
    return pc.sum(empty).as_py() or 0, pc.sum(drawn).as_py() or 0, pc.sum(composed).as_py() or 0


def caption_hash(text: str) -> str:
    """Key of a caption's row in `texts`: 32 hex digits."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def caption_key(caption: str | bytes) -> str:
    """Return the hash of a caption that is given as text, or as the 16 bytes of its hash."""
    return caption.hex() if isinstance(caption, bytes) else caption_hash(caption)


def hashed(captions: pa.Array) -> pa.Array:
    """Return lists of captions as lists of their hashes, 16 bytes each."""
    offsets = pa.array(np.concatenate([[0], np.cumsum(pc.fill_null(pc.list_value_length(captions), 0))]), pa.int32())
    return pa.ListArray.from_arrays(offsets, hashes_of(captions.flatten()))


def hashes_of(captions: pa.Array) -> pa.Array:
    """Return the hash of each caption, 16 bytes; captions that are hashes already stay."""
    if captions.type == HASH:
        return captions
    parts = []
    for start in range(0, len(captions), HASHED_AT_A_TIME):
        some = captions.slice(start, HASHED_AT_A_TIME).cast(pa.large_binary()).to_pylist()
        digests = b"".join([hashlib.blake2b(text, digest_size=16).digest() for text in some])
        parts.append(pa.Array.from_buffers(HASH, len(some), [None, pa.py_buffer(digests)]))
    return pa.concat_arrays([pa.array([], HASH), *parts])
