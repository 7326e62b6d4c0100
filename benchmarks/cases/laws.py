"""Laws for every video, whatever its kind: each yields a sentence per violation."""

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.cases import oracle
from benchmarks.cases.case import Case, Outcome

SENTENCE = re.compile(r"(?!\w*(error|exception|bug)\b:)", re.IGNORECASE)  # null with a reason, not an exception
CUT_SLACK, GRADUAL_SLACK = 1, 2  # frames, as the corpus's scorer allows
LEVELS = 3.0  # of 255, that a flat patch's colour may be off
FLAT = 2.0  # standard deviation below which a patch is flat
PATCH = 16  # pixels
PICTURE_LEVELS = 12.0  # mean difference of two pictures of one frame: encoding, not another frame
CONVERTED = {"bt709", "bt470bg", "smpte170m", "unknown", "bt2020nc", "fcc", "smpte240m"}  # matrices the oracle knows
WHOLE_CLIPS = 3  # of one source
LONGEST_S = 20.0  # clips.max_s of the default recipe
FAINT = 0.2  # invisible share of a transition at either end, where it begins and ends softly
SWALLOWED = 12  # frames that a transition found may reach beyond the true one on either side


def broken(case: Case, outcome: Outcome) -> Iterator[str]:
    """Every law that a video broke."""
    source = outcome.source_of(case.path)
    failures = [f for f in outcome.failures if f["uri"] == str(case.path.resolve())]
    yield from (f"failed as a bug: {f['error']}" for f in failures if f["error"].startswith("bug"))
    if source is None:
        yield "no row in sources"
        return
    if source["state"] == "failed":
        if case.entry.get("state") != "failed":
            yield f"failed: {'; '.join(f['error'] for f in failures) or 'no failure row'}"
        return
    if case.entry.get("state") == "failed":
        yield f"is {source['state']}, expected failed"
        return
    yield from (f"{f['stage']}: {f['error']}" for f in failures if not (f["clip_id"] and SENTENCE.match(f["error"])))
    yield from frames_broken(case, source)
    yield from boundaries_broken(case, source, outcome)
    yield from clips_broken(case, source, outcome)


def frames_broken(case: Case, source: dict[str, Any]) -> Iterator[str]:
    """All frames were seen, and each is in a shot, in a transition or in a span that was dropped."""
    decoded = oracle.decode(case.path, oracle.main_stream(case.path))
    if not decoded.damage and decoded.frames and source["num_frames"] != len(decoded.frames):
        yield f"{source['num_frames']} frames, ffmpeg decodes {len(decoded.frames)}"
    parts = [source.get(name) for name in ("frames_in_shots", "frames_in_transitions", "frames_dropped")]
    if None in parts or sum(parts) != source["num_frames"]:
        yield f"frames in shots, transitions and dropped spans are {parts}, of {source['num_frames']}"


def boundaries_broken(case: Case, source: dict[str, Any], outcome: Outcome) -> Iterator[str]:
    """Where the case names its boundaries, those are found and no others."""
    if "boundaries" not in case.entry:
        return
    found = [
        (s["transition_first_frame"], s["transition_last_frame"])
        for s in sorted(outcome.of(source, "shots"), key=lambda s: s["shot_index"])
        if s["transition"] != "start"
    ]
    used = set()
    for first, last in case.entry["boundaries"]:
        slack = CUT_SLACK if first == last else GRADUAL_SLACK
        match = [b for b in found if b[0] <= last + slack and b[1] >= first - slack]
        used.update(match)
        if not match:
            yield f"boundary {first}..{last} is missed; found {found}"
        wide = [b for b in match if first - b[0] > SWALLOWED or b[1] - last > SWALLOWED]
        if wide:
            yield f"transition {wide[0]} swallows frames of shots beside {first}..{last}"
    if extra := [b for b in found if b not in used]:
        yield f"false boundaries {extra}"
    for clip in outcome.of(source, "clips"):
        mixed = [b for b in case.entry["boundaries"] if _overlap(clip, b) > GRADUAL_SLACK + FAINT * (b[1] - b[0])]
        if mixed:
            yield f"clip {clip['start_frame']}..{clip['end_frame']} holds frames of transitions {mixed}"


def _overlap(clip: dict[str, Any], boundary: list[int]) -> int:
    """Frames of a gradual transition inside a clip; of a cut, how far inside both sides reach."""
    first, last = boundary
    if first == last:
        return min(first - clip["start_frame"], clip["end_frame"] - first)
    return min(clip["end_frame"], last + 1) - max(clip["start_frame"], first)


def clips_broken(case: Case, source: dict[str, Any], outcome: Outcome) -> Iterator[str]:
    """A clip shows its frames of the source, in their colours; its rate and length follow its frames' times."""
    clips = sorted(outcome.of(source, "clips"), key=lambda c: c["start_frame"])
    for clip in clips:
        where = f"clip {clip['start_frame']}..{clip['end_frame']}"
        if abs(clip["num_frames"] / clip["fps"] - clip["duration_s"]) > 1 / clip["fps"]:
            yield f"{where}: {clip['num_frames']} frames at {clip['fps']:.2f} fps are not {clip['duration_s']:.2f} s"
        if clip["duration_s"] > LONGEST_S + min(1.0, 2 / clip["fps"]) and not clip.get("is_still"):
            yield f"{where}: {clip['duration_s']:.1f} s, longer than clips.max_s"
    if not source.get("has_alpha"):  # transparent pixels show black on purpose
        yield from _pictures_broken(case, clips, outcome)


def _pictures_broken(case: Case, clips: list[dict[str, Any]], outcome: Outcome) -> Iterator[str]:
    """The first frame of every clip, and the middle and the last one of some, against the source's."""
    stream = oracle.main_stream(case.path)
    facts = oracle.decode(case.path, stream).frames
    wanted = {}
    for number, clip in enumerate(clips):
        count = clip["end_frame"] - clip["start_frame"]
        some = number % max(1, len(clips) // WHOLE_CLIPS) == 0
        wanted[clip["clip_id"]] = sorted({0, count // 2, count - 1} if some else {0})
    numbers = {clip["start_frame"] + i for clip in clips for i in wanted[clip["clip_id"]]}
    sources = oracle.pictures(case.path, stream, numbers)
    for clip in clips:
        start, places = clip["start_frame"], wanted[clip["clip_id"]]
        with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
            file.write(outcome.mp4_of(clip["clip_id"]))
            file.flush()
            made = oracle.decode(Path(file.name), 0).frames
            ours = oracle.pictures(Path(file.name), 0, places)
        if len(made) != clip["end_frame"] - start:
            yield f"clip {start}: {len(made)} frames in the mp4, {clip['end_frame'] - start} in the source"
        for i in places:
            if start + i in sources and i in ours and not facts[start + i].is_interlaced:  # deinterlaced on purpose
                yield from _picture_broken(clip, i, facts[start + i], sources[start + i], ours[i])


def _picture_broken(
    clip: dict[str, Any], i: int, tags: oracle.FrameFacts, theirs: np.ndarray, ours: np.ndarray
) -> Iterator[str]:
    expected, got = _aligned(theirs, ours, clip)
    difference = float(np.abs(expected.mean(-1) - got.mean(-1)).mean())
    start = clip["start_frame"]
    if difference > PICTURE_LEVELS:
        yield f"clip {start}: frame {i} is not the source's frame {start + i} (off by {difference:.0f} levels)"
    elif tags.matrix in CONVERTED and (off := _colour_error(expected, got)) > LEVELS:
        yield f"clip {start}: colours of frame {i} are off by up to {off:.0f} of 255 ({tags.matrix}, {tags.range})"


def _aligned(theirs: np.ndarray, ours: np.ndarray, clip: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """The source's picture inside the crop at the clip's size, and the clip's."""
    x, y, w, h = (clip[f"crop_{side}"] for side in "xywh")
    inside = np.ascontiguousarray(theirs[y : y + h, x : x + w])
    return cv2.resize(inside, (ours.shape[1], ours.shape[0]), interpolation=cv2.INTER_AREA), ours


def _colour_error(expected: np.ndarray, got: np.ndarray) -> float:
    """The largest difference of mean colours over flat patches, 0 to 255; the worst two in a hundred are left out."""
    rows, columns = expected.shape[0] // PATCH, expected.shape[1] // PATCH
    if not rows or not columns:
        return 0.0
    a, b = (
        p[: rows * PATCH, : columns * PATCH].reshape(rows, PATCH, columns, PATCH, 3).transpose(0, 2, 1, 3, 4)
        for p in (expected, got)
    )
    flat = a.std(axis=(2, 3)).max(-1) < FLAT
    if not flat.any():
        return 0.0
    middle = slice(PATCH // 4, -PATCH // 4)  # chroma bleeds over edges
    off = np.abs((a - b)[:, :, middle, middle].mean(axis=(2, 3))).max(-1)[flat]
    return float(np.quantile(off, 0.98))
