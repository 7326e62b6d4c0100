"""Rows of the snapshots that a run trains on: one, or several by the shares of `data.mix`.

A clip that is in two snapshots has a row of each, with the captions that each has pinned: a draw shows the clip as the
snapshot that it is drawn for has it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain

import numpy as np
import pyarrow as pa

from reelwright.curation.keys.row_order import rows_in_order
from reelwright.curation.store import Snapshot, Store
from reelwright.training.data.rows import row_batches
from reelwright.training.data.spool import Spool, forget
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


def training_rows(store: Store, snapshot: str, data: DataConfig, *, hashes: bool = False) -> pa.Table:
    """Return the rows of a run's snapshot, or of all of its mix with the columns SNAPSHOT and FRAMES beside.

    They are in the order of a plan's, and mapped from a file where they are many.

    Args:
        store: that holds them.
        snapshot: of a run on one; empty where `data.mix` names several.
        data: of the recipe.
        hashes: of captions, in place of their texts.

    Raises:
        TrainError: a snapshot has no clips, or was frozen before the store had the captions that are asked for.
    """
    return ordered_rows(_alike(_rows_of(store, snapshot, data, hashes=hashes)))


def ordered_rows(tables: Iterator[pa.Table]) -> pa.Table:
    """Return the rows of tables of one schema in the order of a plan's, sorted and kept on disk where they are many."""
    first = next(tables)
    batches = (batch for table in chain([first], tables) for batch in table.to_batches())
    spool = Spool(first.schema)
    for batch in rows_in_order(batches, first.schema, order_of(first.schema)):
        spool.add(batch)
        forget()
    return spool.table()


def order_of(schema: pa.Schema) -> list[str]:
    """Return the columns that a plan's rows are in the order of."""
    return [SNAPSHOT, "clip_id"] if SNAPSHOT in schema.names else ["clip_id"]


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


def _rows_of(store: Store, snapshot: str, data: DataConfig, *, hashes: bool) -> Iterator[tuple[str, pa.Table]]:
    """Yield (snapshot, rows) in any order, some at a time; of a mix with SNAPSHOT."""
    snapshots = pinned(store, snapshot, data)
    if data.mix:
        _refuse_unlike(store, snapshots, data.caption_column)
    more = FRAMES if len({one.clips_version for one in snapshots.values()}) > 1 else ()
    for place, name in enumerate(snapshots):
        for rows in row_batches(store, name, data.caption_column, data.caption_kinds, more=more, hashes=hashes):
            numbers = pa.array(np.full(len(rows), place, np.int16))
            yield name, rows.append_column(SNAPSHOT, numbers) if data.mix else rows


def _alike(parts: Iterable[tuple[str, pa.Table]]) -> Iterator[pa.Table]:
    """Give all rows the types of the first ones."""
    first, schema = "", pa.schema([])
    for name, rows in parts:
        if not first:
            first, schema = name, _large(rows.schema)
        for field in rows.schema:
            own = schema.field(field.name).type
            if field.type != own and not _fits(field.type, own):
                raise TrainError(
                    f"the column {field.name} holds {field.type} in snapshot {name} and {own} in {first}; freeze the "
                    "older one again, so that both pin one form of the clips"
                )
        yield rows.cast(schema).combine_chunks()


def _large(schema: pa.Schema) -> pa.Schema:
    """Let text columns be longer than 2 GiB, in one piece."""
    own = {field.name: pa.large_string() if _is_text(field.type) else field.type for field in schema}
    return pa.schema(own | {name: pa.int64() for name in FRAMES if name in own})


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


def _fits(a: pa.DataType, b: pa.DataType) -> bool:
    kinds = (pa.types.is_integer, pa.types.is_floating, _is_text)
    return any(of(a) and of(b) for of in kinds)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)
