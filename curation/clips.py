"""From shots to clips: which spans to cut, their ids and their rows. Pure: nothing is decoded here."""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from pydantic import BaseModel, Field, model_validator

from curation.inputs import Span
from curation.media.cut import CutSpec
from curation.media.encode import EncodeConfig
from curation.scan import Scan, ScannedShot
from curation.shots import Shot
from curation.spans import pieces_of

CUTTING_VERSION = 1  # raise when cutting or encoding changes what comes out
CLOCK_JUMP_S = 60.0  # longer than a picture stands in any footage: the clock jumped, and no clip goes over it


class ClipConfig(BaseModel, frozen=True, extra="forbid"):
    """Which parts of a shot become clips."""

    min_s: float = Field(1.0, ge=0, description="seconds; a shorter shot stays in `shots` and makes no clip")
    max_s: float = Field(20.0, gt=0, description="seconds; a longer shot is divided evenly")
    min_side: int = Field(64, ge=2, description="pixels; a smaller picture makes no clip")

    @model_validator(mode="after")
    def _bounds(self) -> "ClipConfig":
        if self.min_s > self.max_s / 2:
            raise ValueError(f"clips.min_s ({self.min_s}) must be at most half of clips.max_s ({self.max_s})")
        return self


@dataclass(frozen=True)
class PlannedClip:
    """A clip to be cut. captions: of the span of a manifest that it lies in."""

    clip_id: str
    shot_index: int
    spec: CutSpec
    start_s: float
    end_s: float
    captions: tuple[str, ...] = ()


def clip_id_of(source_md5: str, start_frame: int, end_frame: int, crop: tuple[int, int, int, int]) -> str:
    """24 hex digits of what the clip is: the same footage gets the same id on any machine, in any order."""
    key = f"{source_md5}:{start_frame}:{end_frame}:{','.join(map(str, crop))}"
    return hashlib.sha256(key.encode()).hexdigest()[:24]


def clip_fingerprint(config: EncodeConfig) -> str:
    """16 hex digits of what turns a span of frames into bytes."""
    parts = {"version": CUTTING_VERSION, "encode": config.model_dump()}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def plan_clips(source_md5: str, scan: Scan, config: ClipConfig, spans: Sequence[Span] = ()) -> list[PlannedClip]:
    """The clips of one source, in order of time; where a manifest names spans, inside of these. A span that lies in one
    shot is cut as it is, however short."""
    times = scan.timing.times_s()
    planned: dict[str, PlannedClip] = {}
    for index, scanned in enumerate(scan.shots):
        for piece in pieces_of(scanned.shot.start, scanned.shot.end, times, spans):
            part = replace(scanned, shot=replace(scanned.shot, start=piece.start, end=piece.end))
            bounds = config.model_copy(update={"min_s": 0.0}) if piece.whole else config
            for clip in _of_shot(source_md5, index, part, scan, times, bounds):
                same = planned.get(clip.clip_id)  # spans may overlap
                captions = tuple(dict.fromkeys([*(same.captions if same else ()), *piece.captions]))
                planned[clip.clip_id] = replace(clip, captions=captions)
    return sorted(planned.values(), key=lambda c: (c.spec.start_frame, c.spec.end_frame))


def _of_shot(
    source_md5: str, index: int, scanned: ScannedShot, scan: Scan, times: np.ndarray, config: ClipConfig
) -> Iterator[PlannedClip]:
    crop, pts = scanned.crop, scan.timing.pts
    if min(crop.w, crop.h) < config.min_side:
        return
    box = (crop.x, crop.y, crop.w, crop.h)
    for start, end, end_s in _parts(times, scanned.shot, scan.timing.fps, config):
        yield PlannedClip(
            clip_id=clip_id_of(source_md5, start, end, box),
            shot_index=index,
            spec=CutSpec(
                start_frame=start,
                end_frame=end,
                crop=box,
                start_pts=int(pts[start]) if pts is not None else None,
                last_pts=int(pts[end - 1]) if pts is not None else None,
                size=(scan.info.width, scan.info.height),
            ),
            start_s=float(times[start]),
            end_s=end_s,
        )


def _parts(times: np.ndarray, shot: Shot, fps: float, config: ClipConfig) -> Iterator[tuple[int, int, float]]:
    """(first frame, frame after the last, time at which the last ends) of each clip of a shot."""
    jumps = shot.start + 1 + np.flatnonzero(np.diff(times[shot.start : shot.end + 1]) > max(CLOCK_JUMP_S, config.max_s))
    for start, end in pairwise(sorted({shot.start, *jumps.tolist(), shot.end})):
        # where the clock jumped, the last frame counts as long as others do
        last_s = min(times[end], times[end - 1] + 1 / fps) if end in jumps else times[end]
        if last_s - times[start] >= config.min_s - 1e-9:
            shown = np.append(times[start:end], last_s)
            for a, b in divide(shown, 0, end - start, config.max_s):
                yield start + a, start + b, float(shown[b])


def divide(times: np.ndarray, start: int, end: int, max_s: float) -> list[tuple[int, int]]:
    """Divide frames [start, end) into the fewest even parts that last at most `max_s` each (to within a frame).

    times: float64 [N + 1] seconds, as `Timing.times_s`.
    """
    span = times[end] - times[start]
    parts = max(1, math.ceil(span / max_s - 1e-6))
    part = np.floor((times[start:end] - times[start] + 1e-9) * (parts / span)) if span > 0 else np.zeros(end - start)
    edges = [start, *(start + 1 + np.flatnonzero(np.diff(part) > 0)).tolist(), end]
    return list(pairwise(edges))


def clip_row(planned: PlannedClip, source_md5: str, encoded: dict[str, Any], fingerprint: str) -> dict[str, Any]:
    """A row of `clips`. encoded: `width height num_frames fps bytes` of the mp4."""
    duration_s = encoded["num_frames"] / encoded["fps"]
    x, y, w, h = planned.spec.crop
    return {
        "clip_id": planned.clip_id,
        "source_md5": source_md5,
        "shot_index": planned.shot_index,
        "start_frame": planned.spec.start_frame,
        "end_frame": planned.spec.end_frame,
        "start_s": planned.start_s,
        "end_s": planned.end_s,
        "crop_x": x,
        "crop_y": y,
        "crop_w": w,
        "crop_h": h,
        "width": encoded["width"],
        "height": encoded["height"],
        "fps": encoded["fps"],
        "num_frames": encoded["num_frames"],
        "duration_s": duration_s,
        "bitrate_bps": round(8 * encoded["bytes"] / duration_s) if duration_s else 0,
        "clips_fingerprint": fingerprint,
        "span_caption": planned.captions[0] if planned.captions else None,
        "span_captions": list(planned.captions) or None,
    }
