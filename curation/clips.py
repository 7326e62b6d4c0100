"""From shots to clips: which spans to cut, their ids and their rows. Pure: nothing is decoded here."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from pydantic import BaseModel, Field, model_validator

from reelwright.curation.ingest.inputs import Span
from reelwright.curation.media.cut import CutSpec
from reelwright.curation.media.encode import EncodeConfig
from reelwright.curation.scan import Scan, ScannedShot
from reelwright.curation.shots import Shot
from reelwright.curation.spans import pieces_of
from reelwright.curation.timing import CLOCK_JUMP_S, Timing

CUTTING_VERSION = 3  # raise when a change of cutting or encoding changes clips
SPILL_SHARE = 0.1  # of max_s: by so much at most may a part be longer, for the sake of even ones
SLACK_S = 1e-9  # times are sums of floats


class ClipConfig(BaseModel, frozen=True, extra="forbid"):
    """Which parts of a shot become clips."""

    min_s: float = Field(1.0, ge=0, description="seconds; a shorter shot stays in `shots` and makes no clip")
    max_s: float = Field(
        20.0,
        gt=0,
        description="seconds; a longer shot is divided evenly, and of a single picture that stands longer (a slide) so "
        "much is taken",
    )
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
    longest_frame_s: float  # how long the frame that stands longest is shown
    corrupt_frames: int
    true_fps: float | None = None  # distinct pictures per second in the source; None where none repeats
    captions: tuple[str, ...] = ()
    is_image: bool = False


def clip_id_of(source_md5: str, start_frame: int, end_frame: int, crop: tuple[int, int, int, int]) -> str:
    """Return 24 hex digits that identify the clip: the same footage gets the same id on any machine, in any order."""
    key = f"{source_md5}:{start_frame}:{end_frame}:{','.join(map(str, crop))}"
    return hashlib.sha256(key.encode()).hexdigest()[:24]


def clip_fingerprint(config: EncodeConfig) -> str:
    """Return 16 hex digits for all settings that turn a span of frames into bytes."""
    parts = {"version": CUTTING_VERSION, "encode": config.model_dump()}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def plan_clips(
    source_md5: str, scan: Scan, config: ClipConfig, spans: Sequence[Span] = (), *, images: bool = False
) -> list[PlannedClip]:
    """Plan the clips of one source, in order of time.

    Args:
        source_md5: of the file.
        scan: its shots, crops and times.
        config: lengths and sizes of clips.
        spans: parts that a manifest names: clips lie inside of them, and a span that lies in one shot is cut as it is,
            however short.
        images: whether a still image is a clip of one frame.
    """
    times = scan.timing.times_s()
    if images and scan.info.is_image:
        config = config.model_copy(update={"min_s": 0.0})
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
    for start, end, end_s in _parts(times, scanned.shot, scan.timing, config):
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
                duration_s=end_s - float(times[start]),
                may_seek=scan.can_seek,
                is_interlaced=scan.interlaced_in(start, end) > 0,
            ),
            start_s=float(times[start]),
            end_s=end_s,
            longest_frame_s=round(float(np.diff(np.append(times[start:end], end_s)).max()), 6),
            corrupt_frames=scan.corrupt_in(start, end),
            true_fps=scan.true_fps(times, start, end),
            is_image=scan.info.is_image,
        )


def _parts(times: np.ndarray, shot: Shot, timing: Timing, config: ClipConfig) -> Iterator[tuple[int, int, float]]:
    """(first frame, frame after the last, time at which the last ends) of each clip of a shot.

    A shot ends early where a frame stands longer than a clip may, and at a hole.
    """
    steps = np.diff(times[shot.start : shot.end])
    stands = (shot.start + 1 + np.flatnonzero(steps > config.max_s + SLACK_S)).tolist()
    holes = {h for h in timing.holes if shot.start < h <= shot.end}
    edges = sorted({shot.start, *stands, *(h for h in holes if h < shot.end), shot.end})
    for start, end in pairwise(edges):
        lost = end in holes or times[end] - times[end - 1] > max(CLOCK_JUMP_S, 2 / timing.fps)
        yield from _pieces(times[start : end + 1], start, timing.fps, config, lost=lost)


def _pieces(
    times: np.ndarray, first: int, fps: float, config: ClipConfig, *, lost: bool
) -> Iterator[tuple[int, int, float]]:
    """Yield the clips of consecutive frames, numbered from `first`.

    Args:
        times: float64 [N + 1] seconds, as `Timing.times_s`.
        first: number of the first frame.
        fps: frame rate of the source.
        config: lengths of clips.
        lost: the end of the last frame is unknown, since the packets after it are missing.
    """
    count, end_s = len(times) - 1, _end_of_last(times, fps, lost=lost)
    if end_s - times[0] >= config.min_s - SLACK_S:
        shown = np.append(times[:-1], end_s)
        for a, b in divide(shown, 0, count, config.max_s):
            yield first + a, first + b, float(min(shown[b], shown[a] + config.max_s) if b == a + 1 else shown[b])
    elif count > 1 and not lost and times[-1] - times[-2] >= config.min_s:  # the frames before a picture that stands
        yield from _pieces(times[-2:], first + count - 1, fps, config, lost=False)


def _end_of_last(times: np.ndarray, fps: float, *, lost: bool) -> float:
    """When the last of consecutive frames ends: as the next one comes, but it stands no longer than others do.

    A picture that is held before a cut, or the end of what was recorded, is not how fast the shot runs.
    """
    usual = float(np.diff(times[:-1]).max()) if len(times) > 2 else 0.0
    longest = usual or (1 / fps if lost else math.inf)
    return float(min(times[-1], times[-2] + longest))


def divide(times: np.ndarray, start: int, end: int, max_s: float) -> list[tuple[int, int]]:
    """Divide frames [start, end) into parts that last at most `max_s` each, to within a frame.

    The parts are the fewest even ones. Where still pictures stand so long that even parts exceed `max_s`, each part is
    as long as it may be.

    Args:
        times: float64 [N + 1] seconds, as `Timing.times_s`.
        start: first frame.
        end: frame after the last.
        max_s: longest part in seconds.
    """
    span = times[end] - times[start]
    parts = max(1, math.ceil(span / max_s - 1e-6))
    part = np.floor((times[start:end] - times[start] + SLACK_S) * (parts / span)) if span > 0 else np.zeros(end - start)
    edges = [start, *(start + 1 + np.flatnonzero(np.diff(part) > 0)).tolist(), end]
    usual = float(np.median(np.diff(times[start : end + 1])))
    reach_s = max_s + min(usual, SPILL_SHARE * max_s) + SLACK_S
    if all(times[b] - times[a] <= reach_s for a, b in pairwise(edges)):
        return list(pairwise(edges))
    return _filled(times, start, end, max_s)


def _filled(times: np.ndarray, start: int, end: int, max_s: float) -> list[tuple[int, int]]:
    """Parts that take frames while they last at most `max_s`, and one at least."""
    edges = [start]
    while edges[-1] < end:
        reach = int(np.searchsorted(times[: end + 1], times[edges[-1]] + max_s + SLACK_S, side="right")) - 1
        edges.append(max(edges[-1] + 1, min(reach, end)))
    return list(pairwise(edges))


def with_spans(cutting_fingerprint: str, spans: Sequence[Span]) -> str:
    """Return the cutting fingerprint of a source with spans in a manifest: their times decide too."""
    if not spans:
        return cutting_fingerprint
    times = json.dumps([cutting_fingerprint, *([s.start_s, s.end_s] for s in spans)])
    return hashlib.sha256(times.encode()).hexdigest()[:16]


def clip_row(planned: PlannedClip, source_md5: str, encoded: Mapping[str, Any], fingerprint: str) -> dict[str, Any]:
    """Return a row of `clips`. encoded: `width height num_frames fps bytes audio_note colour` of the mp4."""
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
        "true_fps": min(encoded["fps"], planned.true_fps or math.inf),
        "num_frames": encoded["num_frames"],
        "duration_s": duration_s,
        "bitrate_bps": round(8 * encoded["bytes"] / duration_s) if duration_s else 0,
        "is_still": planned.spec.num_frames == 1,
        "is_image": planned.is_image,
        "longest_frame_s": planned.longest_frame_s,
        "corrupt_frames": planned.corrupt_frames,
        "audio_note": encoded["audio_note"],
        **encoded["colour"],
        "clips_fingerprint": fingerprint,
        "span_caption": planned.captions[0] if planned.captions else None,
        "span_captions": list(planned.captions) or None,
    }
