"""Black borders: ours against ffmpeg's cropdetect over the files of a corpus that say where their picture is.

`python -m benchmarks.borders FOLDER` (a folder with truth.json) prints `name value` lines. Ours crops each shot from
about two frames per second, at least five, and counts its worst shot; cropdetect (default limit) sees every frame, and
its last word over the file counts. Milliseconds are of CPU per frame looked at, decoding aside.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import numpy as np

from reelwright.curation.borders import Crop, Profile, find_crop, profile

SAMPLES_PER_S, MIN_SAMPLES, MAX_SAMPLES = 2, 5, 32
FULL_IOU = 0.98  # below it, a file without borders counts as cropped


@dataclass
class Result:
    """The results of one detector on a corpus."""

    boxed: dict[str, float]  # path -> IoU of the worst shot, files with borders
    false_crops: dict[str, list[Crop]]  # files without borders that were cropped
    cpu_ms_per_frame: float


def iou(a: Crop, b: Crop) -> float:
    w = min(a.x + a.w, b.x + b.w) - max(a.x, b.x)
    h = min(a.y + a.h, b.y + b.h) - max(a.y, b.y)
    inter = max(0, w) * max(0, h)
    return inter / (a.w * a.h + b.w * b.h - inter)


def annotated(folder: Path) -> list[dict[str, Any]]:
    """Entries of truth.json with a known crop, duplicates aside."""
    files = json.loads((folder / "truth.json").read_text())["files"]
    return [f for f in files if f.get("crop") and f["category"] != "dups"]


def shots(entry: dict[str, Any]) -> list[tuple[int, int]]:
    """First and last frame of each shot, between the annotated boundaries."""
    start, found = 0, []
    for b in entry.get("boundaries") or []:
        found.append((start, b["start"] - 1))
        start = b["end"] if b["kind"] == "cut" else b["end"] + 1
    found.append((start, entry["frames"] - 1))
    return [(a, b) for a, b in found if a <= b]


def sample_indices(first: int, last: int, fps: float) -> np.ndarray:
    """About two frames per second, evenly inside a shot."""
    count = last - first + 1
    wanted = min(count, MAX_SAMPLES, max(MIN_SAMPLES, round(SAMPLES_PER_S * count / fps)))
    return first + ((np.arange(wanted) + 0.5) * count / wanted).astype(int)


def upright_luma(frame: av.VideoFrame) -> np.ndarray:
    """uint8 [H, W], full range, rotation applied."""
    return np.rot90(frame.reformat(format="gray").to_ndarray(), frame.rotation % 360 // 90)


def sampled_luma(path: Path, wanted: set[int]) -> Iterator[tuple[int, np.ndarray]]:
    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index in wanted:
                yield index, upright_luma(frame)


def measure(folder: Path, files: list[dict[str, Any]], detect: Callable) -> Result:
    boxed: dict[str, float] = {}
    false_crops: dict[str, list[Crop]] = {}
    seconds = frames = 0.0
    for entry in files:
        crops, cost, count = detect(folder / entry["path"], entry)
        seconds, frames = seconds + cost, frames + count
        truth = Crop(*entry["crop"])
        worst = min(iou(c, truth) for c in crops)
        if truth.w * truth.h < 0.998 * entry["width"] * entry["height"]:
            boxed[entry["path"]] = worst
        elif worst < FULL_IOU:
            false_crops[entry["path"]] = crops
    return Result(boxed, false_crops, 1000 * seconds / max(1, frames))


def ours(path: Path, entry: dict[str, Any]) -> tuple[list[Crop], float, int]:
    """Crops of the shots, CPU seconds, frames."""
    owner = {int(i): n for n, (a, b) in enumerate(shots(entry)) for i in sample_indices(a, b, entry["fps"] or 25)}
    profiles: dict[int, list[Profile]] = {}
    seconds = 0.0
    for index, luma in sampled_luma(path, set(owner)):
        begin = time.process_time()
        profiles.setdefault(owner[index], []).append(profile(luma))
        seconds += time.process_time() - begin
    begin = time.process_time()
    crops = [find_crop(p, entry["width"], entry["height"]) for p in profiles.values()]
    return crops, seconds + time.process_time() - begin, len(owner)


def cropdetect(path: Path, entry: dict[str, Any]) -> tuple[list[Crop], float, int]:
    """Last crop over the file; CPU seconds beyond decoding alone; frames."""
    log, with_filter = run_ffmpeg(path, "cropdetect")
    _, without = run_ffmpeg(path, "null")
    found = re.findall(r"crop=(-?\d+):(-?\d+):(-?\d+):(-?\d+)", log)
    full = Crop(0, 0, entry["width"], entry["height"])
    w, h, x, y = map(int, found[-1]) if found else (0, 0, 0, 0)
    return [Crop(x, y, w, h) if w > 0 and h > 0 else full], max(0.0, with_filter - without), entry["frames"]


def run_ffmpeg(path: Path, video_filter: str) -> tuple[str, float]:
    """Log and CPU seconds of one ffmpeg run over a file with a video filter."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-threads", "1", "-i", os.fspath(path.resolve())]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [*command, "-an", "-vf", video_filter, "-f", "null", "-"], capture_output=True, timeout=300, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.stderr.decode(errors="replace"), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a folder with truth.json")
    folder = parser.parse_args().folder
    if not (folder / "truth.json").is_file():
        parser.exit(2, f"{folder}: no truth.json here; give a corpus folder, e.g. ../shared/corpus\n")
    files = annotated(folder)
    for name, detect in (("ours", ours), ("cropdetect", cropdetect)):
        result = measure(folder, files, detect)
        scores = list(result.boxed.values())
        print(f"{name}_iou_mean {np.mean(scores) if scores else float('nan'):.4f}")
        print(f"{name}_iou_worst {min(scores, default=float('nan')):.4f}")
        print(f"{name}_boxed_files {len(scores)}")
        print(f"{name}_false_crops {len(result.false_crops)}")
        print(f"{name}_cpu_ms_per_frame {result.cpu_ms_per_frame:.3f}")


if __name__ == "__main__":
    main()
