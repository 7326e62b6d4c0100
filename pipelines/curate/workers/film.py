"""A long film is scanned by several workers: the task that scans it starts tasks that decode its parts, and joins them.

While it waits, Ray lends its core to others. What comes back is the single scan's result to the bit (see
`curation.scan_parts`); wherever that cannot be had, this task scans the film alone.
"""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reelwright.curation import credentials, usage
from reelwright.curation.media.errors import MediaError
from reelwright.curation.media.worker_sandbox import call_twice
from reelwright.curation.results import Failed, Status
from reelwright.curation.scan import Scan, scan_from_json
from reelwright.curation.scan_parts import Split, split_from_json
from reelwright.curation.usage import Usage
from reelwright.pipelines.curate.workers import tasks

SANDBOXED = "reelwright.pipelines.curate.workers.film_sandboxed"
FEWEST_PARTS = 2
Settings = Mapping[str, Any]
Decoded = tuple[dict[str, Any], Usage, list[bytes]]


def scan(
    uri: str,
    shots: dict,
    borders: dict,
    limits: Settings,
    was: Status = None,
    part_s: float = 0.0,
    *,
    keep_frames: bool = False,
) -> tuple[Scan | Failed, int]:
    """Scan a file as `tasks.scan` does, in parts where it is long; return the number of parts, too.

    Args:
        uri: The file.
        shots: Fields of `ShotConfig`.
        borders: Fields of `BorderConfig`.
        limits: Bounds of a sandbox call.
        was: The file when it was probed.
        part_s: Seconds of a part; 0: the file is not long.
        keep_frames: As in `tasks.scan`, for a file that is not long.
    """
    if part_s:
        with contextlib.suppress(MediaError, OSError):  # no room for the parts; or the single scan says what is wrong
            found = _in_parts(uri, {"shots": shots, "borders": borders}, limits, part_s)
            if found and not tasks._changed(uri, was):
                return found
    return tasks.scan(uri, shots, borders, limits, was, keep_frames=keep_frames and not part_s), 1


def _in_parts(uri: str, how: Mapping[str, dict], limits: Settings, part_s: float) -> tuple[Scan, int] | None:
    """Return the scan, and the number of parts; None where there are none, or one does not decode as in the whole."""
    of_file = {"uri": uri} | tasks._copies(uri, limits)
    bounds = {"max_frames": limits["max_frames"]}
    split = call_twice(limits, f"{SANDBOXED}:split_film", part_s=part_s, shots=how["shots"], **bounds, **of_file)
    if "unfit" in split.value:
        return None
    found = split_from_json(split.value, split.blobs[0])
    parts, files = [], []
    with tempfile.TemporaryDirectory(prefix="reel-") as folder:
        for number, (value, used, blobs) in enumerate(_decoded(found, how["borders"], limits, of_file)):
            usage.note(used)
            if "unfit" in value:
                return None
            parts.append(value)
            files.append([_laid_down(Path(folder, f"{number}-{i}"), blob) for i, blob in enumerate(blobs)])
        if len(parts) < len(found.parts):
            return None
        pts = _laid_down(Path(folder, "pts"), split.blobs[0])
        joined = call_twice(
            limits, f"{SANDBOXED}:join_parts", split=split.value, pts=pts, parts=parts, files=files, **how, **bounds
        )
    return None if "unfit" in joined.value else (scan_from_json(joined.value, joined.blobs[0]), len(parts))


def _decoded(found: Split, borders: dict, limits: Settings, of_file: Mapping[str, Any]) -> Iterator[Decoded]:
    """Have all parts decoded, a few ahead of the one that is waited for; stop where a worker was lost for good."""
    import ray

    start, ahead = _task(limits, near_copies="inputs" in of_file), _cores()
    waiting: list[Any] = []
    for part in [*found.parts, *[None] * ahead]:
        if part is not None:
            pts = found.pts[part.key : part.end].tolist()
            waiting.append(start(dict(of_file), asdict(part), pts, borders, dict(limits), credentials.in_use()))
        if waiting and (part is None or len(waiting) > ahead):
            try:
                yield ray.get(waiting.pop(0))
            except ray.exceptions.RayError:
                return


def _task(limits: Settings, *, near_copies: bool) -> Any:
    """Return what starts a part's task, with the resources that this task has; near the copy of a remote file."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    context = ray.get_runtime_context()
    mine = context.get_assigned_resources()
    options: dict[str, Any] = {"num_cpus": mine.get("CPU", 1), "max_retries": limits["attempts"], "name": "reel:part"}
    if near_copies:
        there = NodeAffinitySchedulingStrategy(context.get_node_id(), soft=True, _spill_on_unavailable=True)
        options["scheduling_strategy"] = there
    return ray.remote(look_at_part).options(**options).remote


def _cores() -> int:
    import ray

    return max(FEWEST_PARTS, int(ray.cluster_resources().get("CPU", 1)))


def look_at_part(
    of_file: Mapping[str, Any], part: dict, pts: Sequence[int], borders: dict, limits: Settings, keys: Mapping[str, str]
) -> Decoded:
    """Decode a part of a film, as a task of its own.

    Args:
        of_file: The file, and the cache of its copies.
        part: Fields of `Part`.
        pts: Timestamps of the frames that are decoded.
        borders: Fields of `BorderConfig`.
        limits: Bounds of a sandbox call.
        keys: Of object stores, by the names of variables.
    """
    credentials.use(keys)
    usage.begin()
    try:
        reply = call_twice(limits, f"{SANDBOXED}:look_at_part", part=part, pts=pts, borders=borders, **of_file)
    except MediaError as error:  # the single scan meets it again, or not
        return {"unfit": str(error)}, usage.end(), []
    return reply.value, usage.end(), reply.blobs


def _laid_down(path: Path, blob: bytes) -> str:
    path.write_bytes(blob)
    return str(path)


def part_length(duration_s: float, split_s: float) -> float:
    """Return how long the parts are that a file is scanned in; 0 where it is too short, or none is to be split."""
    return split_s if split_s and duration_s >= FEWEST_PARTS * split_s else 0.0
