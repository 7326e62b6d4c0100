"""Stages of a run as plain functions that Ray runs on workers. Each returns facts; a file's failure is one of them.

A worker process keeps one sandbox for all its tasks. What happens to hostile bytes happens in there, so a Ray worker
itself dies only with its machine, and Ray's own retries are for that alone.
"""

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from reelwright.curation.clips import PlannedClip
from reelwright.curation.media.errors import MediaError
from reelwright.curation.media.sandbox import Reply, Sandbox
from reelwright.curation.store import Store, StoreError

Work = list[tuple[str, dict]]  # (name, parameters) of annotators
Status = tuple[int, int] | None  # size in bytes and time of change in ns of a local file

_sandbox: Sandbox | None = None


def failure(stage: str, error: MediaError) -> dict[str, str]:
    """What a failed stage hands back instead of facts."""
    return {"stage": stage, "message": str(error), "detail": error.detail}


def probe(uri: str, limits: Mapping[str, Any]) -> dict[str, Any]:
    """{"md5", "bytes", "mtime_ns", "info"} of a file; {"failure"} beside what is known when a step fails."""
    began = time.monotonic()
    was = _status(uri)
    facts: dict[str, Any] = {"md5": None, "bytes": None, "info": None, "mtime_ns": was[1] if was else None}
    try:
        facts |= _call_twice(limits, "reelwright.pipelines.workers.sandboxed:hash_source", uri=uri).value
        facts["info"] = _call_twice(limits, "reelwright.pipelines.workers.sandboxed:probe_source", uri=uri).value
    except MediaError as error:
        facts["failure"] = failure("probe", error)
    if changed := _changed(uri, was):
        facts |= {"md5": None, "info": None, "failure": failure("probe", changed)}
    return facts | {"seconds": time.monotonic() - began}


def scan(uri: str, shots: dict, borders: dict, limits: Mapping[str, Any], was: Status = None) -> dict[str, Any]:
    """{"scan", "pts"} as `scan_to_json` writes them, or {"failure"}. was: the file when it was probed."""
    began = time.monotonic()
    work = {"shots": shots, "borders": borders, "max_frames": limits["max_frames"]}
    try:
        reply = _call_twice(limits, "reelwright.pipelines.workers.sandboxed:scan_source", uri=uri, **work)
        found: dict[str, Any] = {"scan": reply.value, "pts": reply.blobs[0]}
    except MediaError as error:
        found = {"failure": failure("scan", error)}
    if changed := _changed(uri, was):
        found = {"failure": failure("scan", changed)}
    return found | {"seconds": time.monotonic() - began}


def cut(
    uri: str,
    clips: Sequence[PlannedClip],
    rate: str | None,
    encode: dict,
    annotators: list[tuple[str, dict]],
    limits: Mapping[str, Any],
    was: Status = None,
) -> tuple[dict[str, Any], list[bytes]]:
    """({"clips": a result for each clip as `cut_source` gives it}, [mp4 of each clip, empty where it failed]).

    was: the file when it was probed; where it is another by now, {"changed": a failure} comes instead of clips.
    """
    began = time.monotonic()
    work = {"uri": uri, "rate": rate, "encode": encode, "annotators": annotators}
    results, blobs = _cut(limits, work, [asdict(c.spec) for c in clips])
    if changed := _changed(uri, was):
        found = {"changed": failure("cut", changed), "seconds": time.monotonic() - began}
        return found, [b"" for _ in clips]
    return {"clips": results, "seconds": time.monotonic() - began}, blobs


def _cut(limits: Mapping[str, Any], work: dict[str, Any], specs: list[dict]) -> tuple[list[dict], list[bytes]]:
    """All in one call; where that takes the sandbox down, clip by clip, so that only the guilty one is lost."""
    try:
        reply = _call(limits, "reelwright.pipelines.workers.sandboxed:cut_source", specs=specs, **work)
    except MediaError as error:
        if len(specs) == 1:
            return _cut_alone(limits, work, specs, error)
        parts = [_cut(limits, work, [spec]) for spec in specs]
        return [r for part in parts for r in part[0]], [b for part in parts for b in part[1]]
    return reply.value, reply.blobs


def _cut_alone(
    limits: Mapping[str, Any], work: dict[str, Any], specs: list[dict], error: MediaError
) -> tuple[list[dict], list[bytes]]:
    """Cut one clip, then run its annotators apart: one that takes the sandbox down costs its own columns alone."""
    if not work["annotators"]:
        return [{"error": failure("cut", error)}], [b""]
    results, blobs = _cut(limits, work | {"annotators": []}, specs)
    if blobs[0]:
        with tempfile.TemporaryDirectory(prefix="reel-") as folder:
            results[0] |= _annotate_one(limits, _laid_down(folder, blobs[0]), work["annotators"])
    return results, blobs


def write_media(store_uri: str, clip_ids: Sequence[str], *blob_lists: list[bytes]) -> str | dict[str, Any]:
    """Write clips to files of the store that nobody sees until the driver commits them. Returns what to commit, or
    {"failure"}.

    clip_ids names every non-empty blob of `blob_lists`, in order.
    """
    mp4s = [blob for blobs in blob_lists for blob in blobs if blob]
    try:
        return Store(store_uri).write_media(clip_ids, mp4s)
    except StoreError as error:
        return {"failure": {"stage": "write", "message": str(error), "detail": ""}}


def annotate(
    store_uri: str,
    clip_ids: Sequence[str],
    annotators: Work,
    limits: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    producers: Mapping[str, str],
) -> list[dict[str, Any]]:
    """{"columns", "failures", "seconds"} for each stored clip; rows: the columns that the annotators read."""
    results = []
    with tempfile.TemporaryDirectory(prefix="reel-") as folder:
        for (_, mp4), row in zip(Store(store_uri).read_media(clip_ids), rows, strict=True):
            results.append(_annotate_one(limits, _laid_down(folder, mp4), annotators, row, producers))
    return results


def derive(rows: Sequence[Mapping[str, Any]], annotators: Work, producers: Mapping[str, str]) -> list[dict[str, Any]]:
    """The same for annotators that look at columns alone: nothing is decoded, so nothing needs a sandbox."""
    from reelwright.pipelines.workers.sandboxed import derive_columns

    return derive_columns(rows, annotators, producers)


def _laid_down(folder: str, mp4: bytes) -> str:
    """Path of a file that holds a clip, for the sandbox to read."""
    path = os.path.join(folder, "clip.mp4")
    with open(path, "wb") as file:
        file.write(mp4)
    return path


def _annotate_one(
    limits: Mapping[str, Any],
    path: str,
    annotators: Work,
    row: Mapping[str, Any] | None = None,
    producers: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    about = {"row": dict(row or {}), "producers": dict(producers or {})}
    call = "reelwright.pipelines.workers.sandboxed:annotate_media"
    try:
        return _call(limits, call, path=path, annotators=annotators, **about).value
    except MediaError as error:
        if len(annotators) == 1:
            return {"columns": {}, "failures": [failure(annotators[0][0], error)], "seconds": {}}
    parts = [_annotate_one(limits, path, [annotator], row, producers) for annotator in annotators]
    return {
        "columns": {k: v for part in parts for k, v in part["columns"].items()},
        "failures": [f for part in parts for f in part["failures"]],
        "seconds": {k: v for part in parts for k, v in part["seconds"].items()},
    }


def _call_twice(limits: Mapping[str, Any], function: str, **kwargs: Any) -> Reply:
    """A sandbox that died may have been killed for what others did, by the kernel for want of memory say, or have
    grown over many files: the file gets a fresh one before it is blamed."""
    try:
        return _call(limits, function, **kwargs)
    except MediaError as error:
        if error.kind not in ("crash", "memory"):
            raise
    return _call(limits, function, **kwargs)


def _call(limits: Mapping[str, Any], function: str, **kwargs: Any) -> Reply:
    global _sandbox  # noqa: PLW0603 - one sandbox a worker process
    memory_bytes, stall_s = limits["memory_mib"] << 20, limits["stall_s"]
    if _sandbox is None:
        _sandbox = Sandbox()
    if _sandbox.memory_bytes != memory_bytes:
        _sandbox.close()
    _sandbox.memory_bytes, _sandbox.stall_s = memory_bytes, stall_s
    return _sandbox.call(function, kwargs, max_s=limits["max_s"])


def _status(uri: str) -> Status:
    """None for a remote file, which is taken to stay as it is, and for one that cannot be looked at."""
    try:
        status = None if "://" in uri else os.stat(uri)
    except OSError:
        return None
    return (status.st_size, status.st_mtime_ns) if status else None


def _changed(uri: str, was: Status) -> MediaError | None:
    """Why nothing that was read of a file counts: it is being written, or was replaced."""
    now = _status(uri)
    if was is None or now is None or now == was:
        return None
    sizes = f", {was[0]} bytes before and {now[0]} after" if now[0] != was[0] else ""
    return MediaError("io", f"the file changed while it was read{sizes}; the next run tries it again")
