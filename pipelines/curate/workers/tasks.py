"""Stages of a run as plain functions that Ray runs on workers. A file's failure is a result (`Failed`), not an error.

A worker process keeps one sandbox for all its tasks. Hostile bytes are handled in there, so a Ray worker
itself dies only with its machine, and Ray's own retries are for that alone.
"""

import contextlib
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from reelwright.annotate.results import Annotated
from reelwright.curation.clips import PlannedClip, clip_row
from reelwright.curation.media.errors import MediaError
from reelwright.curation.media.input_cache import InputCache
from reelwright.curation.media.worker_sandbox import call, call_twice
from reelwright.curation.results import Failed, Probed, Status
from reelwright.curation.scan import Scan, scan_from_json
from reelwright.curation.signed import is_signed, link_of
from reelwright.curation.store import Store, StoreError
from reelwright.pipelines.annotate.tasks import annotate_file, laid_down
from reelwright.pipelines.curate.workers.results import Cut, CutClip, MediaWritten
from reelwright.pipelines.curate.workers.settings import Settings

WRITE_PAUSES_S = (1.0, 10.0, 30.0)
"""Before clips are written again to other files of an object store; files of a try that failed are seen by nobody."""
KEPT_SHARE = 4
"""Of a sandbox's memory one part in so many may hold the decoded frames of a file between its scan and its cut."""
SANDBOXED = "reelwright.pipelines.curate.workers.sandboxed"


def probe(uri: str, limits: Mapping[str, Any], images: bool = False) -> Probed:
    """Hash a file and read its headers. Where a step fails, `failed` comes beside the facts found by then.

    Args:
        uri: The file.
        limits: Bounds of a sandbox call.
        images: Whether still images are taken.
    """
    began = time.monotonic()
    was = _status(uri)
    probed = Probed(mtime_ns=was[1] if was else None)
    source = {"uri": uri} | _copies(uri, limits)
    if "inputs" in source:
        probed = replace(probed, node=this_node())
    try:
        hashed = call_twice(limits, f"{SANDBOXED}:hash_source", **source).value
        probed = replace(probed, md5=hashed["md5"], num_bytes=hashed["bytes"])
        probed = replace(probed, info=call_twice(limits, f"{SANDBOXED}:probe_source", images=images, **source).value)
    except MediaError as error:
        probed = replace(probed, failed=Failed.by("probe", error))
    if changed := _changed(uri, was):
        probed = replace(probed, md5=None, info=None, failed=Failed.by("probe", changed))
    return replace(probed, seconds=time.monotonic() - began)


def scan(
    uri: str, shots: dict, borders: dict, limits: Mapping[str, Any], was: Status = None, *, keep_frames: bool = False
) -> Scan | Failed:
    """Find the shots and borders of a file.

    Args:
        uri: The file.
        shots: Fields of `ShotConfig`.
        borders: Fields of `BorderConfig`.
        limits: Bounds of a sandbox call, as a recipe's `limits` has them.
        was: The file when it was probed; `Failed` where it is another by now.
        keep_frames: The decoded frames of a short file stay in the sandbox, for the cut that follows.
    """
    keep_bytes = room_for_frames(limits) if keep_frames else 0
    work = {"shots": shots, "borders": borders, "max_frames": limits["max_frames"], "keep_bytes": keep_bytes}
    work |= _copies(uri, limits)
    try:
        reply = call_twice(limits, f"{SANDBOXED}:scan_source", uri=uri, **work)
    except MediaError as error:
        return Failed.by("scan", _changed(uri, was) or error)
    if changed := _changed(uri, was):
        return Failed.by("scan", changed)
    return scan_from_json(reply.value, reply.blobs[0])


def room_for_frames(limits: Mapping[str, Any]) -> int:
    """Return the bytes that decoded frames may take while they wait for their cut."""
    return (limits["memory_mib"] << 20) // KEPT_SHARE


def forget_frames(limits: Mapping[str, Any]) -> None:
    """Free the frames that a scan kept and no cut will ask for: an idle sandbox must not hold them."""
    with contextlib.suppress(MediaError):
        call(limits, "reelwright.curation.media.kept:forget")


@dataclass(frozen=True)
class CutJob:
    """Clips to be cut of one file.

    Args:
        uri: The file.
        md5: Of its bytes.
        clips: What to cut.
        rate: Frames per second of the file as a fraction; None where its times rule.
        was: The file when it was probed; where it is another by now, `Cut.changed` comes instead of clips.
    """

    uri: str
    md5: str
    clips: Sequence[PlannedClip]
    rate: str | None
    was: Status = None


def cut(job: CutJob, settings: str) -> tuple[Cut, list[bytes]]:
    """Cut and annotate clips of one file: (rows, mp4 per clip, empty where it failed). settings: `Settings` as JSON."""
    began, known = time.monotonic(), Settings.read(settings)
    limits, encode = known.limits, known.as_dicts["encode"]
    work = {"uri": job.uri, "rate": job.rate, "encode": encode, "annotators": known.annotators}
    results, blobs = _cut(limits, work | _copies(job.uri, limits), [asdict(c.spec) for c in job.clips])
    if changed := _changed(job.uri, job.was):
        return Cut([], {}, time.monotonic() - began, Failed.by("cut", changed)), [b"" for _ in job.clips]
    clips: list[CutClip] = []
    failed: dict[str, Failed] = {}
    for planned, result in zip(job.clips, results, strict=True):
        if isinstance(result, Failed):
            failed[planned.clip_id] = result
            continue
        row = clip_row(planned, job.md5, result.encoded, known.clips_fingerprint) | dict(result.annotated.columns)
        clips.append(CutClip(row, result.encoded["bytes"], result.annotated.failures))
    return Cut(clips, failed, time.monotonic() - began), blobs


@dataclass(frozen=True)
class _Encoded:
    """One clip that was cut: facts of its encoding, and the columns of annotators that shared its decode."""

    encoded: Mapping[str, Any]
    annotated: Annotated


_Result = _Encoded | Failed


def _cut(limits: Mapping[str, Any], work: dict[str, Any], specs: list[dict]) -> tuple[list[_Result], list[bytes]]:
    """Cut all in one call; where that takes the sandbox down, clip by clip, so that only the guilty one is lost."""
    try:
        reply = call(limits, f"{SANDBOXED}:cut_source", specs=specs, **work)
    except MediaError as error:
        if len(specs) == 1:
            return _cut_alone(limits, work, specs, error)
        parts = [_cut(limits, work, [spec]) for spec in specs]
        return [r for part in parts for r in part[0]], [b for part in parts for b in part[1]]
    return [_cut_result(value) for value in reply.value], reply.blobs


def _cut_result(value: Mapping[str, Any]) -> _Result:
    if "failed" in value:
        return Failed(**value["failed"])
    return _Encoded(value["encoded"], Annotated.from_json(value["annotated"]))


def _cut_alone(
    limits: Mapping[str, Any], work: dict[str, Any], specs: list[dict], error: MediaError
) -> tuple[list[_Result], list[bytes]]:
    """Cut one clip, then run its annotators apart: one that takes the sandbox down costs its own columns alone."""
    if not work["annotators"]:
        return [Failed.by("cut", error)], [b""]
    (result, *_), blobs = _cut(limits, work | {"annotators": []}, specs)
    if isinstance(result, _Encoded):
        with tempfile.TemporaryDirectory(prefix="reel-") as folder:
            annotated = annotate_file(limits, laid_down(folder, blobs[0]), work["annotators"])
        result = replace(result, annotated=annotated)
    return [result], blobs


def write_media(store_uri: str, clip_ids: Sequence[str], *blob_lists: list[bytes]) -> MediaWritten | Failed:
    """Write clips to files of the store, unseen until the driver commits them.

    Args:
        store_uri: The store.
        clip_ids: Ids of all blobs that are not empty, in order.
        blob_lists: Bytes of clips, as `cut` gave them.
    """
    mp4s = [blob for blobs in blob_lists for blob in blobs if blob]
    for pause_s in WRITE_PAUSES_S if "://" in store_uri else ():
        with contextlib.suppress(StoreError):  # an object store lost an upload, or failed for longer than Lance asks it
            return MediaWritten(Store(store_uri).write_media(clip_ids, mp4s))
        time.sleep(pause_s)
    try:
        return MediaWritten(Store(store_uri).write_media(clip_ids, mp4s))
    except StoreError as error:
        return Failed("write", str(error))


def _copies(uri: str, limits: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a sandboxed function about a remote input: the cache of its copies, and its link if it is signed."""
    link = {"link": link_of(uri)} if is_signed(uri) else {}
    return link | ({"inputs": limits["inputs"]} if "://" in uri and limits.get("inputs") else {})


def clear_inputs(inputs: Mapping[str, Any]) -> None:
    """Delete a run's copies of remote inputs on this machine. inputs: fields of `InputCache`."""
    InputCache(**inputs).clear()


def this_node() -> str:
    """Return Ray's id of the machine that this process runs on."""
    import ray

    return ray.get_runtime_context().get_node_id()


def _status(uri: str) -> Status:
    """Size and time of change; None for a remote file, and for one that cannot be looked at."""
    try:
        status = None if "://" in uri else os.stat(uri)
    except OSError:
        return None
    return (status.st_size, status.st_mtime_ns) if status else None


def _changed(uri: str, was: Status) -> MediaError | None:
    """Return the reason why nothing that was read of a file counts: it is being written, or was replaced."""
    now = _status(uri)
    if was is None or now is None or now == was:
        return None
    sizes = f", {was[0]} bytes before and {now[0]} after" if now[0] != was[0] else ""
    return MediaError("io", f"the file changed while it was read{sizes}; the next run tries it again")
