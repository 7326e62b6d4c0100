"""A source as its shots and clips lie in time, and why there is no clip of the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml
from pydantic import ValidationError

from reelwright.curation.clips import ClipConfig
from reelwright.curation.store import Store
from reelwright.curation.store.sql_text import literal
from reelwright.pipelines.app.values import shown

MOST_PARTS = 2_000
SHOT_COLUMNS = [
    "shot_index", "start_s", "end_s", "transition", "confidence", "detector", "crop_x", "crop_y", "crop_w", "crop_h",
]  # fmt: skip
FRAMES = 1.5
"""A gap of fewer frames is rounding."""
Row = Mapping[str, Any]


def timeline(store: Store, source: Row, md5: str) -> dict[str, Any]:
    """Return the shots, clips and gaps of a source, each in order of time.

    Args:
        store: to read.
        source: its row of sources; empty where there is none.
        md5: of the source.
    """
    where = f"source_md5 = {literal(md5)}"
    shots = store.read("shots", SHOT_COLUMNS, where).sort_by("start_s").slice(0, MOST_PARTS).to_pylist()
    columns = ["clip_id", "start_s", "end_s", "shot_index"]
    clips = store.read("clips", columns, where).sort_by("start_s").slice(0, MOST_PARTS).to_pylist()
    found = gaps(shots, clips, source, _cut_by(store))[:MOST_PARTS]
    return {"shots": [_plain(one) for one in shots], "clips": [_plain(one) for one in clips], "gaps": found}


def gaps(shots: Sequence[Row], clips: Sequence[Row], source: Row, cut_by: ClipConfig | None) -> list[dict[str, Any]]:
    """Return what of a source is in no clip: {kind, start_s, end_s, why}.

    kind is transition (between shots), dropped (in no shot) or unused (of a shot).

    Args:
        shots: rows of shots in order of time.
        clips: rows of clips in order of time.
        source: the row of sources.
        cut_by: bounds that clips were cut by, None where they are not known.
    """
    if not shots and clips:  # nobody found the shots, so there is nothing to say of what lies between
        return []
    least = FRAMES / (source.get("fps") or 24.0)
    found = [*_between(shots, source)]
    for shot in shots:
        own = [one for one in clips if one["start_s"] < shot["end_s"] and one["end_s"] > shot["start_s"]]
        why = _why_unused(shot, own, source, cut_by)
        found += [_gap("unused", a, b, why) for a, b in _uncovered(shot["start_s"], shot["end_s"], own)]
    long = [one for one in found if one["end_s"] - one["start_s"] >= least]
    return sorted(long, key=lambda one: one["start_s"])


def _between(shots: Sequence[Row], source: Row) -> Iterator[dict[str, Any]]:
    """Yield what lies before, between and after shots."""
    at = 0.0
    why = source.get("note") or "left out of shots, for a reason that the source's row does not state"
    for shot in shots:
        if shot["transition"] == "gradual":
            detector = f", found by {shot['detector']}" if shot["detector"] else ""
            yield _gap("transition", at, shot["start_s"], f"gradual transition{detector}")
        else:
            yield _gap("dropped", at, shot["start_s"], why)
        at = max(at, shot["end_s"])
    if source.get("duration_s"):
        faded = (source.get("frames_in_transitions") or 0) and not source.get("frames_dropped")
        kind, reason = ("transition", "gradual transition that ends the file") if faded else ("dropped", why)
        yield _gap(kind, at, source["duration_s"], reason)


def _uncovered(start: float, end: float, clips: Sequence[Row]) -> Iterator[tuple[float, float]]:
    at = start
    for one in clips:
        yield at, one["start_s"]
        at = max(at, one["end_s"])
    yield at, end


def _why_unused(shot: Row, clips: Sequence[Row], source: Row, cut_by: ClipConfig | None) -> str:
    side = min(shot["crop_w"] or 2**31, shot["crop_h"] or 2**31)
    length = shot["end_s"] - shot["start_s"]
    if cut_by is not None and side < cut_by.min_side:
        return f"the picture inside the borders is {side} px, under {cut_by.min_side} px"
    if cut_by is not None and length < cut_by.min_s:
        return f"a shot of {length:.2f} s, under {cut_by.min_s:g} s"
    if source.get("spans"):
        return "outside of the spans that the manifest names"
    if clips:
        return "a rest too short, a picture that stands, or a hole in the file's times"
    return source.get("no_clip_reason") or "a picture that stands, or a hole in the file's times"


def _cut_by(store: Store) -> ClipConfig | None:
    """Return the bounds of the newest run that cut clips."""
    runs = store.read("runs", ["recipe", "started_at"], "command = 'curate'").sort_by([("started_at", "descending")])
    for text in runs.column("recipe").to_pylist()[:1]:
        try:
            return ClipConfig(**(yaml.safe_load(text or "{}") or {}).get("clips", {}))
        except (yaml.YAMLError, ValidationError, TypeError, AttributeError):  # of another version
            return None
    return None


def _gap(kind: str, start: float, end: float, why: str) -> dict[str, Any]:
    return {"kind": kind, "start_s": start, "end_s": end, "why": shown(why)}


def _plain(row: Row) -> dict[str, Any]:
    return {name: shown(value) for name, value in row.items()}
