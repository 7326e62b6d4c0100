"""Rows of the snapshots that a run trains on: one, or several by the shares of `data.mix`.

A clip that is in two snapshots has a row of each, with the captions that each has pinned: a draw shows the clip as the
snapshot that it is drawn for has it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from reelwright.curation.store import Snapshot, Store
from reelwright.training.data.rows import snapshot_rows
from reelwright.training.errors import TrainError
from reelwright.training.recipe import DataConfig

SNAPSHOT = "snapshot"
"""Column of a mix's rows: place of the row's snapshot among the names in order."""
FRAMES = ("start_frame", "end_frame")
"""Where a clip is in its source: of a mix whose snapshots pin different versions of clips."""


def pinned(store: Store, snapshot: str, data: DataConfig) -> dict[str, Snapshot]:
    """Return the snapshots of a run by name, in order of names.

    Args:
        store: that holds them.
        snapshot: of a run on one; empty where `data.mix` names several.
        data: of the recipe.

    Raises:
        StoreError: one is not there.
    """
    return {name: store.snapshots.show(name) for name in (sorted(data.mix) or [snapshot])}


def training_rows(store: Store, snapshot: str, data: DataConfig) -> pa.Table:
    """Return `snapshot_rows` of a run's snapshot, or of all of its mix with the columns SNAPSHOT and FRAMES beside.

    Raises:
        TrainError: a snapshot has no clips, or was frozen before the store had the captions that are asked for.
    """
    if not data.mix:
        return snapshot_rows(store, snapshot, data.caption_column, data.caption_kinds)
    snapshots = pinned(store, snapshot, data)
    _refuse_unlike(store, snapshots, data.caption_column)
    moved = len({one.clips_version for one in snapshots.values()}) > 1
    parts = []
    for place, name in enumerate(snapshots):
        rows = snapshot_rows(store, name, data.caption_column, data.caption_kinds)
        rows = rows.append_column(SNAPSHOT, pa.array(np.full(len(rows), place, np.int16)))
        parts.append(_with_frames(store, name, rows) if moved else rows)
    return _joined(list(snapshots), parts)


def content_hash(snapshots: Mapping[str, Snapshot], mix: Mapping[str, float]) -> str:
    """Return the hash of what is drawn from: a snapshot's own, or one over names, shares and hashes of a mix."""
    if not mix:
        return next(iter(snapshots.values())).content_hash
    lines = [f"{name}\t{float(mix[name]).hex()}\t{one.content_hash}\n" for name, one in sorted(snapshots.items())]
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def media_versions(snapshots: Iterable[Snapshot]) -> list[int]:
    """Return the versions of `media` that snapshots pin, the newest first."""
    return sorted({one.media_version for one in snapshots}, reverse=True)


def media_in_turn(store: Store, ids: Sequence[str], versions: Sequence[int]) -> Iterator[tuple[str, bytes]]:
    """Yield (clip_id, mp4) of clips, each id once and each at the first of the versions that has it."""
    wanted = list(dict.fromkeys(ids))
    for version in versions[:-1]:
        there = store.with_media(wanted, version=version)
        yield from store.read_media([one for one in wanted if one in there], version=version)
        wanted = [one for one in wanted if one not in there]
    yield from store.read_media(wanted, version=versions[-1])


def media_reader(store: Store, versions: Sequence[int]) -> Callable[[Sequence[str]], dict[str, bytes]]:
    """Return a function that reads clips by id; see `media_in_turn`."""
    return lambda ids: dict(media_in_turn(store, ids, versions))


def _with_frames(store: Store, name: str, rows: pa.Table) -> pa.Table:
    """`rows`, which are in the snapshot's order, with the clips' places in their sources."""
    places = store.snapshots.clips_table(name, FRAMES)
    if not places.column("clip_id").combine_chunks().equals(rows.column("clip_id").combine_chunks()):
        raise TrainError(f"snapshot {name} changed while it was read; run the command again")
    for column in FRAMES:
        rows = rows.append_column(column, places.column(column).cast(pa.int64()))
    return rows


def _refuse_unlike(store: Store, snapshots: Mapping[str, Snapshot], column: str) -> None:
    """Refuse a mix of which some have the column of captions: the others would quietly train on other captions."""
    has = {n: column in store.dataset("clips", one.clips_version).schema.names for n, one in snapshots.items()}
    lacking = [name for name, there in has.items() if not there]
    if lacking and len(lacking) < len(has):
        other = next(name for name, there in has.items() if there)
        raise TrainError(
            f"snapshot {lacking[0]} was frozen before the clips had the column {column!r} (data.caption_column), which "
            f"{other} has; freeze its query again under another name, or set data.caption_column to one that both have"
        )


def _joined(names: Collection[str], parts: list[pa.Table]) -> pa.Table:
    first = parts[0].schema
    for name, part in zip(names, parts, strict=True):
        for field in part.schema:
            if field.type != first.field(field.name).type and not _fits(field.type, first.field(field.name).type):
                raise TrainError(
                    f"the column {field.name} holds {field.type} in snapshot {name} and {first.field(field.name).type} "
                    f"in {next(iter(names))}; freeze the older one again, so that both pin one form of the clips"
                )
    return pa.concat_tables([part.cast(first) for part in parts]).combine_chunks()


def _fits(a: pa.DataType, b: pa.DataType) -> bool:
    return (pa.types.is_integer(a) and pa.types.is_integer(b)) or (pa.types.is_floating(a) and pa.types.is_floating(b))
