"""Truth for a video of one kind beyond the laws for all: one function per kind number."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

from benchmarks.cases import oracle
from benchmarks.cases.case import Case, Outcome

Check = Callable[[Case, dict[str, Any], list[dict[str, Any]]], Iterator[str]]
CHECKS: dict[int, Check] = {}
COMBED = 0.5  # combing_score above which a clip is combed
HOLE_S = 0.5  # seconds without a frame in a stream of constant rate


def kind(*numbers: int) -> Callable[[Check], Check]:
    def add(check: Check) -> Check:
        CHECKS.update(dict.fromkeys(numbers, check))
        return check

    return add


def broken(case: Case, outcome: Outcome) -> Iterator[str]:
    """Unmet demands of a case's own kind."""
    source = outcome.source_of(case.path)
    if source is None or source["state"] != "ok" or case.kind not in CHECKS:
        return
    yield from CHECKS[case.kind](case, source, outcome.of(source, "clips"))


@kind(1)
def colours(case: Case, source: dict[str, Any], clips: list[dict[str, Any]]) -> Iterator[str]:
    """Tags are columns of the source and of its clips, as ffmpeg reads them."""
    facts = oracle.decode(case.path, oracle.main_stream(case.path)).frames[0]
    for name, value in (("matrix", facts.matrix), ("transfer", facts.transfer), ("primaries", facts.primaries)):
        for row in (source, *clips):
            if value != "unknown" and row.get(f"color_{name}") != value:
                yield f"color_{name} is {row.get(f'color_{name}')}, expected {value}"
    hdr = {"smpte2084": "pq", "arib-std-b67": "hlg"}.get(facts.transfer)
    if hdr and source.get("hdr") != hdr:
        yield f"hdr is {source.get('hdr')}, expected {hdr}"
    if not clips:
        yield "no clip"


@kind(3)
def right_stream(case: Case, source: dict[str, Any], clips: list[dict[str, Any]]) -> Iterator[str]:
    """The stream a person would mean is cut, and the note tells of the others."""
    streams = {s.index: s for s in oracle.describe(case.path)[0]}
    meant = streams[oracle.main_stream(case.path)]
    if (source["width"], source["height"]) not in ((meant.width, meant.height), (meant.height, meant.width)):
        yield f"{source['width']}x{source['height']}, expected {meant.width}x{meant.height}"
    if len(streams) > 1 and "stream" not in (source["note"] or ""):
        yield f"the note does not tell of the other streams: {source['note']}"
    if not clips:
        yield "no clip"


@kind(7, 13)
def rate(case: Case, source: dict[str, Any], clips: list[dict[str, Any]]) -> Iterator[str]:
    """Frames over seconds agrees with the container's length; a hold does not change a clip's rate."""
    _, seconds = oracle.describe(case.path)
    frames = oracle.decode(case.path, oracle.main_stream(case.path)).frames
    times = [f.time_s for f in frames if f.time_s is not None]
    steps = sorted(b - a for a, b in pairwise(times) if b > a)
    usual = 1 / steps[len(steps) // 2] if steps else 0.0
    if case.kind == 7 and seconds:
        if abs(source["duration_s"] - seconds) > 0.1 * seconds:
            yield f"duration_s is {source['duration_s']:.2f}, the container says {seconds:.2f}"
        usual = len(frames) / seconds
    for row in ([source] if case.kind == 7 else []) + clips:
        if usual and abs(row["fps"] - usual) > 0.05 * usual:
            yield f"fps is {row['fps']:.2f}, expected {usual:.2f}"
    if not clips:
        yield "no clip"


@kind(8)
def damage(case: Case, source: dict[str, Any], clips: list[dict[str, Any]]) -> Iterator[str]:
    """Damage that the decoder tells of is in the source's note and in a column of clips; no clip goes over a hole."""
    decoded = oracle.decode(case.path, oracle.main_stream(case.path))
    if decoded.damage and not (source["note"] and sum(c.get("corrupt_frames") or 0 for c in clips)):
        yield f"damage is not told: note {source['note']!r}, corrupt_frames {[c.get('corrupt_frames') for c in clips]}"
    times = [f.time_s for f in decoded.frames]
    holes = [i for i in range(1, len(times)) if (times[i] or 0) - (times[i - 1] or 0) > HOLE_S]
    for clip in clips:
        over = [i for i in holes if clip["start_frame"] < i < clip["end_frame"]]
        if over and "hole" not in (source["note"] or ""):
            yield f"clip {clip['start_frame']}..{clip['end_frame']} goes over the hole at frame {over[0]}"


@kind(15)
def interlacing(case: Case, source: dict[str, Any], clips: list[dict[str, Any]]) -> Iterator[str]:
    """Frames flagged as interlaced come out deinterlaced; combing that no flag tells is a column."""
    flagged = any(f.is_interlaced for f in oracle.decode(case.path, oracle.main_stream(case.path)).frames)
    scores = [c.get("combing_score") for c in clips]
    if not scores or None in scores:
        yield f"combing_score is {scores}"
    elif flagged and max(scores) > COMBED:
        yield f"combing is left: {scores}"
    elif not flagged and max(scores) < COMBED:
        yield f"combing is not told: {scores}"


@kind(27)
def alpha(case: Case, source: dict[str, Any], clips: list[dict[str, Any]]) -> Iterator[str]:
    """A source with transparency says so."""
    if not source.get("has_alpha"):
        yield "has_alpha is not set"


@kind(34)
def repeats(case: Case, source: dict[str, Any], clips: list[dict[str, Any]]) -> Iterator[str]:
    """The true rate is lower than the container's."""
    if not source.get("true_fps") or source["true_fps"] > 0.8 * source["fps"]:
        yield f"true_fps is {source.get('true_fps')}, of {source['fps']} with repeated frames"


@kind(2, 10, 12, 14, 23, 28, 29, 30)
def has_clips(case: Case, source: dict[str, Any], clips: list[dict[str, Any]]) -> Iterator[str]:
    """The footage becomes clips."""
    if not clips and case.entry.get("clips", 1):
        yield "no clip"
