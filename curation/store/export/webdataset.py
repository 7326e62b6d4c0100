"""WebDataset: tar shards, each clip as `<name>.mp4` beside `<name>.json` with its columns."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reelwright.curation.store.export.format import Format
from reelwright.curation.store.export.selection import Clip, Export
from reelwright.curation.store.results import json_line


def write(export: Export) -> None:
    """Write shard-000000.tar, shard-000001.tar, …, each closed once it holds `export.options.shard_bytes` of clips."""
    clips = export.clips()
    first = next(clips, None)
    number = 0
    while first is not None:
        with _shard(export.folder / f"shard-{number:06d}.tar") as tar:
            first = _fill(tar, first, clips, export.options.shard_bytes)
        number += 1


def _fill(tar: tarfile.TarFile, first: Clip, clips: Iterator[Clip], limit: int) -> Clip | None:
    """Add clips until the shard is full; returns the one that no longer fits."""
    clip: Clip | None = first
    used = 0
    while clip is not None and (used == 0 or used + len(clip.mp4) <= limit):
        _add(tar, f"{clip.name}.mp4", clip.mp4)
        _add(tar, f"{clip.name}.json", json_line(clip.row | {"caption": clip.caption}))
        used += max(1, len(clip.mp4))
        clip = next(clips, None)
    return clip


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)  # time and owner stay 0: the same clips give the same bytes
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))


@contextmanager
def _shard(path: Path) -> Iterator[tarfile.TarFile]:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        yield tar


FORMAT = Format("webdataset", "tar shards of 1 GB: ID.mp4 beside ID.json with every column", write, takes_all=True)
