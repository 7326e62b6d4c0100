"""Calls of a film that is scanned in parts, inside a sandbox: where to split it, what a part shows, how they join.

A film that cannot be scanned so is a value, {"unfit": the reason}, and no error: it is then scanned as one.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

from reelwright.curation.borders import BorderConfig
from reelwright.curation.media import kept
from reelwright.curation.media.input_cache import InputCache
from reelwright.curation.media.remote import fetch_copy, use_cache
from reelwright.curation.scan import scan_to_json
from reelwright.curation.scan_parts import (
    Part,
    Unfit,
    join,
    look_at,
    look_from_json,
    look_to_json,
    split,
    split_from_json,
    split_to_json,
)
from reelwright.curation.shots import ShotConfig
from reelwright.curation.signed import with_link

Blobs = Sequence[bytes | bytearray]
Call = Callable[..., tuple[dict[str, Any], Blobs]]


def _or_unfit(call: Call) -> Call:
    @wraps(call)
    def called(**kwargs: Any) -> tuple[dict[str, Any], Blobs]:
        inputs = kwargs.pop("inputs", None)
        use_cache(InputCache(**inputs) if inputs else None)
        kept.forget()
        if link := kwargs.pop("link", None):
            kwargs["uri"] = with_link(kwargs["uri"], link)
        if inputs and "://" in kwargs.get("uri", ""):
            fetch_copy(kwargs["uri"])
        try:
            return call(**kwargs)
        except Unfit as unfit:
            return {"unfit": str(unfit)}, []

    return called


@_or_unfit
def split_film(uri: str, part_s: float, max_frames: int, shots: dict) -> tuple[dict[str, Any], Blobs]:
    """Split a film; return a `Split` as `split_to_json` writes it."""
    return split_to_json(split(uri, part_s, max_frames, ShotConfig(**shots)))


@_or_unfit
def look_at_part(uri: str, part: dict, pts: Sequence[int], borders: dict) -> tuple[dict[str, Any], Blobs]:
    """Decode a part; return what it shows as `look_to_json` writes it."""
    return look_to_json(*look_at(uri, Part(**part), pts, BorderConfig(**borders)))


@_or_unfit
def join_parts(
    split: dict, pts: str, parts: list[dict], files: list[list[str]], shots: dict, borders: dict, max_frames: int
) -> tuple[dict[str, Any], Blobs]:
    """Join parts; return a `Scan` as `scan_to_json` writes it.

    Args:
        split: JSON of the split.
        pts: the file with its blob.
        parts: JSON of what each part showed.
        files: the files with the blobs of each part.
        shots: fields of `ShotConfig`.
        borders: fields of `BorderConfig`.
        max_frames: of a source.
    """
    found = split_from_json(split, Path(pts).read_bytes())
    seen = [look_from_json(part, [Path(f) for f in of_part]) for part, of_part in zip(parts, files, strict=True)]
    return scan_to_json(join(found, seen, ShotConfig(**shots), BorderConfig(**borders), max_frames))
