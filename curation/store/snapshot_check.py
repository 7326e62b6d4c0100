"""Checks of a snapshot: its content hash, its pins, its clips and their bytes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import pyarrow as pa

from reelwright.curation.store.clip_media import LOOKUP_IDS, locate, read
from reelwright.curation.store.connection import Connection
from reelwright.curation.store.datasets import Dataset
from reelwright.curation.store.errors import StoreError
from reelwright.curation.store.snapshot_record import Snapshot
from reelwright.errors import first_line

PINNED = ("clips", "media", "sources")
MEDIA_SAMPLES = 16  # clips to read whole


@dataclass(frozen=True)
class SnapshotCheck:
    """problems: one sentence each; empty for a sound snapshot. media_read: clips that were read whole."""

    name: str
    clips: int
    media_read: int
    problems: list[str] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Whether no problem was found."""
        return not self.problems


def content_hash(rows: pa.Table) -> str:
    """Return `sha256:` over one line `clip_id TAB weight NEWLINE` per clip.

    Lines are sorted by clip id; weights are written by `float.hex`.
    """
    ids, weights = rows.column("clip_id").to_pylist(), rows.column("weight").to_pylist()
    digest = hashlib.sha256()
    for clip_id, weight in sorted(zip(ids, weights, strict=True)):
        digest.update(f"{clip_id}\t{float(weight).hex()}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def check(store: Connection, snapshot: Snapshot, rows: pa.Table, media_samples: int | None) -> SnapshotCheck:
    """rows: (clip_id, weight, …) of the snapshot. media_samples: how many clips to read whole; None is all."""
    ids = rows.column("clip_id").to_pylist()
    problems = [] if content_hash(rows) == snapshot.content_hash else ["its rows no longer have its content hash"]
    problems += _unpinned(store, snapshot)
    problems += _missing(store, "clips", snapshot.clips_version, ids)
    problems += _missing(store, "media", snapshot.media_version, ids)
    step = 1 if media_samples is None else max(1, len(ids) // max(1, media_samples))
    sample = ids[::step]
    problems += _unreadable(store, snapshot.media_version, sample)
    return SnapshotCheck(snapshot.name, len(ids), len(sample), problems)


def pinned_version(dataset: Dataset, tag: str) -> int | None:
    """Return the version that a tag pins, from its own file: a list of tags may be old on an object store."""
    try:
        return dataset.tags.get_version(tag)
    except ValueError as error:
        if "does not exist" in str(error):
            return None
        raise


def _unpinned(store: Connection, snapshot: Snapshot) -> list[str]:
    problems = []
    for table in PINNED:
        want = getattr(snapshot, f"{table}_version")
        if pinned_version(store.dataset(table), snapshot.tag) != want:
            problems.append(f"tag {snapshot.tag} no longer pins version {want} of {table}")
    return problems


def _missing(store: Connection, table: str, version: int, ids: list[str]) -> list[str]:
    try:
        have = set(store.read(table, ["clip_id"], version=version).column(0).to_pylist())
    except StoreError as error:
        return [str(error)]
    gone = [one for one in ids if one not in have]
    return [f"{len(gone)} of its clips are not in {table}, such as {gone[0]}"] if gone else []


def _unreadable(store: Connection, version: int, ids: list[str]) -> list[str]:
    try:
        dataset = store.dataset("media", version)
        for start in range(0, len(ids), LOOKUP_IDS):
            part = ids[start : start + LOOKUP_IDS]
            sizes = {one: size for one, (_, size) in locate(dataset, part).items()}
            for one, data in read(dataset, part):
                if len(data) != sizes[one]:
                    return [f"the mp4 of {one} has {len(data)} bytes, not {sizes[one]}"]
    except (StoreError, OSError, ValueError) as error:
        return [f"media cannot be read: {first_line(error)}"]
    return []
