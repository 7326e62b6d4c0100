"""Clips of a query or a snapshot as files that other trainers read, one format per file of this folder.

`export(store, out, format, sql=… or snapshot=…)`. Clips stream through, some
64 MB in memory at a time. The folder appears under its name only when it is whole.
"""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from reelwright.curation.store.errors import StoreError, look_alikes
from reelwright.curation.store.export import marker, remote
from reelwright.curation.store.export.format import Format, find_formats
from reelwright.curation.store.export.lengths import SHORTEST
from reelwright.curation.store.export.selection import Export, ExportOptions, select

if TYPE_CHECKING:
    from reelwright.curation.store.store import Store

FORMATS: dict[str, Format] = find_formats()
ExportResult = marker.ExportResult
MARKER = marker.MARKER


def export(
    store: Store,
    out: str | Path,
    format: str,
    *,
    sql: str | None = None,
    snapshot: str | None = None,
    force: bool = False,
    options: ExportOptions | None = None,
) -> ExportResult:
    """Write the clips of a query or a snapshot as files, and return counts and notes.

        export(Store.open("store"), "clips", "videofolder", sql="select clip_id from clips where blur_score > 100")

    Args:
        store: to export from.
        out: a folder or an object store's URI.
        format: one of FORMATS.
        sql: returns clip_id, and whatever it returns besides is exported in place of the clip's own column of that
            name: `select clip_id, visual_style || ': ' || caption as caption …` makes captions.
        snapshot: its name, instead of `sql`.
        force: replace an earlier export.
        options: captions, the longest length and the size of shards.

    Raises:
        StoreError: `out` exists, the format is unknown, or a clip has no media.
    """
    options = options or ExportOptions()
    if options.max_frames < SHORTEST:
        raise StoreError(f"an export's longest length is {SHORTEST} frames or more, not {options.max_frames}.")
    if format not in FORMATS:
        alike = look_alikes(format, FORMATS, count=1)
        meant = f"did you mean {alike[0]}? Else " if alike else ""
        raise StoreError(f"{format!r} is not an export format; {meant}choose one of: {', '.join(FORMATS)}.")
    if "://" in str(out):
        write = partial(export, store, format=format, sql=sql, snapshot=snapshot, options=options)
        portable = [one.name for one in FORMATS.values() if one.portable]
        return remote.export_to_uri(str(out), FORMATS[format], write, force=force, portable=portable)
    final = Path(os.path.abspath(os.path.expanduser(out)))
    _refuse_overwrite(final, force)
    selection = select(store, sql=sql, snapshot=snapshot)
    part = final.with_name(f".{final.name}.part")
    _make_empty(part)
    try:
        one = Export(selection, part, final, options)
        result = write_local(one, format, sql, snapshot)
        if final.exists():
            shutil.rmtree(final) if final.is_dir() else final.unlink()
        part.rename(final)
    except OSError as error:
        raise StoreError(f"cannot write the export to {final}: {error.strerror or error}; free some space?") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return result


def write_local(one: Export, format: str, sql: str | None, snapshot: str | None) -> ExportResult:
    """Write the whole export into its folder, which is there and empty. Raises StoreError."""
    FORMATS[format].write(one)
    if not one.num_clips:
        raise StoreError("the query returns no clip, so there is nothing to export; loosen its conditions.")
    return marker.write(one, format, sql, snapshot)


def _refuse_overwrite(final: Path, force: bool) -> None:
    if not final.exists() or (final.is_dir() and not any(final.iterdir())):
        return
    if not final.is_dir() or not (final / marker.MARKER).is_file():
        raise StoreError(f"{final} exists and is not an export of reel's, so it stays; choose another folder.")
    if not force:
        raise StoreError(f"{final} already holds an export; choose another folder, or add --force to replace it.")


def _make_empty(part: Path) -> None:
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
    except OSError as error:
        raise StoreError(f"cannot make {part}: {error.strerror}; choose a folder you can write.") from error
