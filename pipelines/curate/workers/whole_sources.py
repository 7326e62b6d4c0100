"""Tasks that take several sources at a time: a small file must not cost a task of its own at each stage."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from reelwright.curation import usage
from reelwright.curation.clips import PlannedClip, plan_clips
from reelwright.curation.ingest.inputs import Span
from reelwright.curation.no_clip import why_no_clip
from reelwright.curation.results import Failed, Probed, Status
from reelwright.curation.scan_rows import scan_columns, shot_rows
from reelwright.pipelines.curate.workers import film, tasks
from reelwright.pipelines.curate.workers.cut_batches import cut_batches
from reelwright.pipelines.curate.workers.results import Scanned
from reelwright.pipelines.curate.workers.settings import Settings

HELD_BYTES = 64 << 20
"""Of clips that a task has cut, after which it leaves those of its next sources to other tasks."""


@dataclass(frozen=True)
class ScanJob:
    """A source to be scanned.

    Args:
        uri: The file.
        md5: Of its bytes.
        num_bytes: Its size.
        was: The file when it was probed; `Failed` where it is another by now.
        claimed_frames: By its container; 0: it does not say.
        spans: Parts that a manifest names.
        left: Clips that the store has of it from a run that was killed or had other settings: id -> fingerprint.
        part_s: Seconds of the parts that it is scanned in; 0: it is not long.
        decoded_bytes: Of all its frames, by its headers; 0: they do not say.
        apart: Its clips are cut by tasks of their own, however few.
    """

    uri: str
    md5: str
    num_bytes: int | None
    was: Status
    claimed_frames: int = 0
    spans: tuple[Span, ...] = ()
    left: Mapping[str, str] | None = None
    part_s: float = 0.0
    decoded_bytes: int = 0
    apart: bool = False


def probe_sources(uris: Sequence[str], limits: Mapping[str, Any], images: bool) -> list[Probed]:
    """Probe files, one after the other; see `tasks.probe`."""
    found = []
    for uri in uris:
        found.append(tasks.probe(uri, limits, images))
        usage.lap("probe")
    return found


def scan_sources(jobs: Sequence[ScanJob], settings: str) -> tuple[list[Scanned | Failed], list[bytes]]:
    """Scan files and plan their clips; where the clips of one are few, cut them too: (results, mp4s).

    Args:
        jobs: The files.
        settings: `Settings` as JSON.
    """
    known = Settings.read(settings)
    found: list[Scanned | Failed] = []
    mp4s: list[bytes] = []
    for job in jobs:
        one = _scan(job, known)
        usage.lap("scan")
        room = known.cut_at_once and not job.apart and sum(map(len, mp4s)) < HELD_BYTES
        if isinstance(one, Scanned) and room and len(one.batches) == 1:
            work = tasks.CutJob(job.uri, job.md5, one.batches[0], one.rate, job.was)
            cut, blobs = tasks.cut(work, settings)
            one = replace(one, batches=(), cut=cut)
            mp4s += blobs
            usage.lap("cut")
        elif isinstance(one, Scanned) and _keeps_frames(job, known):
            tasks.forget_frames(known.limits)
        found.append(one)
    return found, mp4s


def _scan(job: ScanJob, known: Settings) -> Scanned | Failed:
    clock = time.monotonic()
    how = known.as_dicts["shots"], known.as_dicts["borders"]
    keep_frames = _keeps_frames(job, known)
    scan, parts = film.scan(job.uri, *how, known.limits, job.was, job.part_s, keep_frames=keep_frames)
    if isinstance(scan, Failed):
        return scan
    if scan.frames_lost:
        counts = f"{scan.frames_lost} of {scan.timing.num_frames} frames are in no shot and no transition"
        return Failed("scan", f"bug: {counts}; please report it")
    planned = plan_clips(job.md5, scan, known.clips, job.spans, images=known.images)
    return Scanned(
        scan_columns(scan, job.num_bytes, job.claimed_frames),
        shot_rows(job.md5, scan, known.shots.detector),
        [clip.clip_id for clip in planned],
        list(cut_batches(list(_missing(planned, job, known)), scan, known)),
        str(scan.timing.rate) if scan.timing.rate else None,
        None if planned else why_no_clip(scan, known.clips, job.spans),
        time.monotonic() - clock,
        parts=parts,
    )


def _keeps_frames(job: ScanJob, known: Settings) -> bool:
    """Return whether decoded frames wait for the cut: all of them fit. A decoder gives back no memory that it took."""
    return known.cut_at_once and not job.apart and 0 < job.decoded_bytes < tasks.room_for_frames(known.limits)


def _missing(planned: Sequence[PlannedClip], job: ScanJob, known: Settings) -> Iterator[PlannedClip]:
    """Clips that the store does not have already, cut in this way."""
    left = job.left or {}
    return (clip for clip in planned if left.get(clip.clip_id) != known.clips_fingerprint)
