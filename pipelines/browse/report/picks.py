"""Clips to look at: the best and the worst by a few scores, and a sample, as small strips of frames."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

from reelwright.curation.media.sheets import strip, to_jpeg
from reelwright.curation.store import Store, StoreError
from reelwright.curation.store.sql_text import identifier

CLIPS = 6  # a sheet
SAMPLE = 12
STRIP_HEIGHT = 84  # px
JPEG_QUALITY = 68
FLOATS = "BETWEEN -3.4e38 AND 3.4e38"  # neither NaN nor infinite

EXTREMES: tuple[tuple[str, str, str | None], ...] = (
    ("aesthetic_score", "Most pleasing", "Least pleasing"),
    ("blur_score", "Sharpest", "Blurriest"),
    ("motion_score", "Most motion", "Least motion"),
    ("text_coverage", "Most text", None),
    ("watermark_score", "Most likely watermarked", None),
    ("brightness", "Brightest", "Darkest"),
)
"""Column, the meaning of its highest values and of its lowest (None: nothing worth a look)."""


@dataclass(frozen=True)
class Pick:
    """A clip on a sheet. picture: data URI of a JPEG."""

    clip_id: str
    value: float | None
    source: str
    start_s: float
    duration_s: float
    size: str
    picture: str = ""


@dataclass(frozen=True)
class Sheet:
    """Clips picked for the report under one title: a sample, or clips with extreme values of a column."""

    title: str
    column: str
    meaning: str
    unit: str
    picks: list[Pick]


def sheets(store: Store, where: str | None) -> list[Sheet]:
    """Sheets of clips that pass `where`; those without a clip are left out."""
    asked = [("A sample", "", "clips in the order of their ids, which are hashes", "", _sample(store, where))]
    schema = store.schema("clips")
    for column, best, worst in EXTREMES:
        if column not in schema.names:
            continue
        metadata = schema.field(column).metadata or {}
        meaning, unit = (metadata.get(key, b"").decode() for key in (b"meaning", b"unit"))
        for title, direction in ((best, "DESC"), (worst, "ASC")):
            if title:
                asked.append((title, column, meaning, unit, _extreme(store, where, column, direction, worst is None)))
    pictures = _pictures(store, {row["clip_id"] for *_, rows in asked for row in rows})
    return [
        Sheet(title, column, meaning, unit, [_pick(row, pictures) for row in rows])
        for title, column, meaning, unit, rows in asked
        if rows
    ]


def _sample(store: Store, where: str | None) -> list[dict[str, Any]]:
    return _rows(store, "NULL", f"({where}\n)" if where else "true", "clip_id", SAMPLE)


def _extreme(store: Store, where: str | None, column: str, direction: str, only_positive: bool) -> list[dict[str, Any]]:
    name = identifier(column)
    conditions = [f"({where}\n)"] * bool(where) + [f"{name} {FLOATS}"] + [f"{name} > 0"] * only_positive
    return _rows(store, name, " AND ".join(conditions), f"{name} {direction}, clip_id", CLIPS)


def _rows(store: Store, value: str, condition: str, order: str, limit: int) -> list[dict[str, Any]]:
    columns = f"clip_id, {value} AS value, uri, source_md5, start_s, duration_s, width, height"
    query = f"SELECT {columns} FROM clips_full WHERE {condition} ORDER BY {order} LIMIT {limit}"
    return store.sql(query).to_pylist()


def _pick(row: dict[str, Any], pictures: dict[str, str]) -> Pick:
    return Pick(
        clip_id=row["clip_id"],
        value=row["value"],
        source=PurePosixPath(row["uri"]).name if row["uri"] else f"source {row['source_md5']}",
        start_s=row["start_s"] or 0.0,
        duration_s=row["duration_s"] or 0.0,
        size=f"{row['width'] or '?'}×{row['height'] or '?'}",
        picture=pictures[row["clip_id"]],
    )


def _pictures(store: Store, clip_ids: Iterable[str]) -> dict[str, str]:
    """clip_id -> data URI of its strip; a few clips in memory at a time."""
    workers = min(8, os.cpu_count() or 1)
    found: dict[str, str] = {}
    media = _media(store, sorted(clip_ids))
    with ThreadPoolExecutor(workers) as pool:  # decoding leaves the interpreter's lock
        while group := list(islice(media, workers)):
            found |= zip((clip_id for clip_id, _ in group), pool.map(picture, (mp4 for _, mp4 in group)), strict=True)
    return found


def _media(store: Store, clip_ids: list[str]) -> Iterator[tuple[str, bytes]]:
    """(clip_id, mp4), with no bytes for a clip whose media is lost: the page is for seeing that, too."""
    for clip_id in clip_ids:
        try:
            yield from store.read_media([clip_id])
        except StoreError:
            yield clip_id, b""


def picture(mp4: bytes) -> str:
    """Return a clip's first, middle and last frame as a data URI; a crossed-out tile where it does not decode."""
    jpeg = to_jpeg(strip(mp4, STRIP_HEIGHT), JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
