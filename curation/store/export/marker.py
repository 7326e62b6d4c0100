"""The record of an export: the origin of its clips, and a mark that the folder is one of ours.

`reelwright-export.json` has the facts, `reelwright-clips.tsv` one line `clip_id TAB weight TAB name` per clip.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from reelwright.curation.store.errors import StoreError
from reelwright.curation.store.snapshot_check import content_hash

if TYPE_CHECKING:
    from reelwright.curation.store.export.selection import Export

MARKER = "reelwright-export.json"
"""Only a folder with this file is ever replaced."""
CLIPS = "reelwright-clips.tsv"


@dataclass(frozen=True)
class ExportResult:
    """Outcome of an export.

    Attributes:
        path: the export's folder, a URI as text.
        clips: number of clips; equals `empty_captions` plus the sum of `caption_kinds`.
        bytes: size of all files but the export's own description.
        files: number of the same files.
        caption_kinds: kind of a clip's caption -> clips.
        empty_captions: clips without a caption.
        variant_kinds: kind -> captions, over all captions of the clips.
        notes: lines on how a trainer will treat the clips.
    """

    format: str
    path: Path | str
    clips: int
    bytes: int
    files: int
    empty_captions: int
    caption_kinds: dict[str, int] = field(default_factory=dict)
    variant_kinds: dict[str, int] = field(default_factory=dict)
    content_hash: str = ""
    notes: list[str] = field(default_factory=list)


def write(export: Export, format: str, sql: str | None, snapshot: str | None) -> ExportResult:
    """Write both files; returns what came of the export."""
    files = [p for p in export.folder.rglob("*") if p.is_file()]
    ids, weights, names = zip(*export.chosen, strict=True)
    result = ExportResult(
        format=format,
        path=export.final,
        clips=export.num_clips,
        bytes=sum(p.stat().st_size for p in files),
        files=len(files),
        empty_captions=export.empty_captions,
        caption_kinds=dict(export.caption_kinds.most_common()),
        variant_kinds=dict(export.variant_kinds.most_common()),
        content_hash=content_hash(pa.table({"clip_id": ids, "weight": weights})),
        notes=list(export.notes),
    )
    content = {
        **asdict(result),
        "path": str(result.path),
        "store": export.selection.store.uri,
        "snapshot": snapshot,
        "sql": sql,
        "versions": export.selection.versions,
        "captions": asdict(export.options.captions),
        "exported_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    _write(export.folder / MARKER, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    lines = (f"{i}\t{w!r}\t{n}\n" for i, w, n in zip(map(_plain, ids), weights, names, strict=True))
    _write(export.folder / CLIPS, "".join(lines))
    return result


def read(folder: Path) -> dict[str, Any]:
    """Return the record in an export's folder. Raises StoreError where there is none."""
    try:
        found = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except OSError as error:
        raise StoreError(f"{folder}: {MARKER} cannot be read ({error.strerror}); was it exported by reel?") from error
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise StoreError(f"{folder}: {MARKER} cannot be read: it is damaged, no JSON object; export again")
    return found


def read_clips(folder: Path) -> dict[str, str]:
    """Name of a clip's files -> its clip id; empty for an export that does not say."""
    try:
        lines = (folder / CLIPS).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError):
        return {}
    fields = [line.split("\t") for line in lines]
    return {f[2]: f[0] for f in fields if len(f) == 3}


def _plain(clip_id: str) -> str:
    """Strip an id of characters that would break the line; our own ids are hex digits."""
    return " ".join(clip_id.split())


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
