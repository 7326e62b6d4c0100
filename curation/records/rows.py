"""Rows of the store, from the results of the stages."""

import json
import math
from collections.abc import Mapping
from typing import Any

from reelwright.curation.ingest.inputs import Input
from reelwright.curation.results import Failed, Probed
from reelwright.curation.scan_rows import count_in_words, info_columns


def source_row(
    item: Input,
    probed: Probed,
    scanned: Mapping[str, Any] | None,
    state: str,
    duplicate_of: str | None,
    *,
    clips_with_faulty_sound: int = 0,
) -> dict[str, Any]:
    """Return a row of `sources`: the container's claims, or instead of them the facts that decoding showed.

    Args:
        item: The input.
        probed: Facts of its file.
        scanned: Its columns as `scan_columns` makes them; None where it was not scanned.
        state: ok, duplicate or failed.
        duplicate_of: Uri of the file that it repeats.
        clips_with_faulty_sound: Its clips whose sound is damaged or missing.
    """
    row: dict[str, Any] = {
        "source_id": item.source_id or item.uri,
        "uri": item.uri,
        "md5": probed.md5,
        "bytes": probed.num_bytes,
        "mtime_ns": probed.mtime_ns,
        "state": state,
        "duplicate_of": duplicate_of,
        "licence": item.licence,
        **caption_columns(item),
    }
    if scanned is not None:
        row.update(scanned)
    elif probed.info:
        row.update(info_columns(probed.info))
    if clips_with_faulty_sound:
        sound = f"sound of {count_in_words(clips_with_faulty_sound, 'clip')} is damaged or missing"
        row["note"] = f"{row['note']}; {sound}" if row.get("note") else sound
    return row


def caption_columns(item: Input) -> dict[str, Any]:
    """Columns of `sources` that hold the captions of an input and of its parts."""
    return {
        "caption": item.caption,
        "captions": list(item.captions) if len(item.captions) > 1 else None,
        "spans": _spans(item),
    }


def failure_row(
    uri: str, source_md5: str | None, clip_id: str | None, why: Failed, attempts: int, fingerprint: str
) -> dict[str, Any]:
    """Return a row of `failures`."""
    return {
        "uri": uri,
        "source_md5": source_md5,
        "clip_id": clip_id,
        "stage": why.stage,
        "error": why.message,
        "detail": why.detail,
        "kind": why.kind or None,
        "attempts": attempts,
        "fingerprint": fingerprint,
    }


def _spans(item: Input) -> str | None:
    parts = [[s.start_s, s.end_s if math.isfinite(s.end_s) else None, list(s.captions)] for s in item.spans]
    return json.dumps(parts, ensure_ascii=False) if parts else None
