"""The cost of curation over plain ffmpeg: CPU seconds of a whole default run over decoding and encoding alone.

    python -m benchmarks.cost ../shared/corpus [--parts 4] [--set KEY=VALUE]

The floor, in the same run: one single-threaded ffmpeg per source, which decodes it once and encodes the same clips with
the same settings. CPU seconds are of all processes, without the start of Ray. Prints `name value`.

A virtual machine gives other CPU seconds for the same work from minute to minute. So the sources are curated in parts,
into one store, and the floor of a part is measured right after it; each part's ratio is printed, and that of the sums.

Python's bytecode is there, as it is wherever something has run before: a tenth of the files is curated first, into a
store that is thrown away. Without it each process would compile its imports, torch, Ray and Lance among them.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import ffmpeg
import imageio_ffmpeg
import psutil
import ray

from reelwright.curation.ingest.inputs import Inputs
from reelwright.curation.ingest.resolve import list_inputs
from reelwright.curation.store import Store
from reelwright.pipelines.curate.run import run_all
from reelwright.pipelines.curate.sources import Summary
from reelwright.pipelines.recipes.curation import CurateRecipe, load_recipe, parse_overrides
from reelwright.pipelines.runtime.cluster import LOCAL

SETTLE_S = 3.0  # for the workers that Ray starts ahead of any task
SAMPLE_S = 0.05
WARM_EVERY = 10  # files, of which one is curated before anything is measured


class CpuMeter:
    """CPU seconds of this process and all its descendants, ended ones included (sampled)."""

    def __init__(self) -> None:
        self.seen: dict[tuple[int, float], float] = {}
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def total_s(self) -> float:
        self._sample()
        return sum(self.seen.values())

    def stop(self) -> None:
        self.stopped.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.stopped.wait(SAMPLE_S):
            self._sample()

    def _sample(self) -> None:
        me = psutil.Process()
        for process in [me, *me.children(recursive=True)]:
            try:
                times = process.cpu_times()
                self.seen[process.pid, process.create_time()] = times.user + times.system
            except psutil.Error:
                continue


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--set", dest="settings", action="append", default=[], help="KEY=VALUE over the default recipe")
    parser.add_argument("--parts", type=int, default=4, help="of the sources, each curated and measured by itself")
    args = parser.parse_args()
    recipe = load_recipe(None, parse_overrides(args.settings))
    inputs = list_inputs([str(args.folder)])
    warm_up(recipe, inputs)
    run_s = floor_s = wall_s = 0.0
    clips, stages = 0, Counter[str]()
    with tempfile.TemporaryDirectory() as folder, local_ray():
        store, meter = Store.open(Path(folder) / "store", create=True), CpuMeter()
        for i in range(args.parts):
            part = replace(inputs, files=inputs.files[i :: args.parts])
            cost = curate(store, recipe, part, meter)
            least = floor(store, recipe, {file.uri for file in part.files}, Path(folder))
            print(f"part_{i + 1}_ratio  {cost.cpu_s / least:17.3f} ({cost.cpu_s:.1f} / {least:.1f})", flush=True)
            run_s, floor_s, wall_s = run_s + cost.cpu_s, floor_s + least, wall_s + cost.wall_s
            stages.update(cost.summary.stage_seconds)
            clips += cost.summary.clips
        meter.stop()
    print(f"run_cpu_s                {run_s:.1f}")
    print(f"floor_cpu_s              {floor_s:.1f}")
    print(f"cost_ratio               {run_s / floor_s:.3f}")
    print(f"wall_s                   {wall_s:.1f}")
    for stage, seconds in stages.items():
        print(f"{stage + '_task_wall_s':24} {seconds:.1f}")
    print(f"clips                    {clips}")


@dataclass(frozen=True)
class Cost:
    """Of curating a part: seconds of CPU and of wall, and the summary of the run."""

    cpu_s: float
    wall_s: float
    summary: Summary


def curate(store: Store, recipe: CurateRecipe, inputs: Inputs, meter: CpuMeter) -> Cost:
    """Curate inputs on the Ray that runs."""
    before = meter.total_s() - sampling_s(meter)
    wall = time.monotonic()
    summary, _ = run_all(store, recipe, inputs)
    wall_s = time.monotonic() - wall
    return Cost(meter.total_s() - sampling_s(meter) - before, wall_s, summary)


def warm_up(recipe: CurateRecipe, inputs: Inputs) -> None:
    """Curate some of the inputs, so that bytecode of all that a run imports is written."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    with tempfile.TemporaryDirectory() as folder, local_ray():
        store = Store.open(Path(folder) / "store", create=True)
        run_all(store, recipe, replace(inputs, files=inputs.files[::WARM_EVERY]), quiet=True)


@contextmanager
def local_ray() -> Iterator[None]:
    """Ray as `reel curate` starts it, and its first workers."""
    ray.init(**LOCAL, log_to_driver=False, logging_level="error")
    time.sleep(SETTLE_S)
    yield
    ray.shutdown()


def sampling_s(meter: CpuMeter) -> float:
    """CPU seconds that the meter's own thread has taken: not curation's."""
    threads = {t.id: t.user_time + t.system_time for t in psutil.Process().threads()}
    return threads.get(meter.thread.native_id or 0, 0.0)


def floor(store: Store, recipe: CurateRecipe, uris: set[str], folder: Path) -> float:
    """CPU seconds of plain ffmpeg: decode each readable source of these once, encode its clips."""
    clips: dict[str, list[dict]] = {}
    for clip in store.read("clips").to_pylist():
        clips.setdefault(clip["source_md5"], []).append(clip)
    before = _children_s()
    for source in store.read("sources", filter="state = 'ok'").to_pylist():
        if source["uri"] not in uris:
            continue
        command = ffmpeg_command(source["uri"], clips.get(source["md5"], []), recipe, folder)
        subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True)
    return _children_s() - before


def _children_s() -> float:
    times = psutil.Process().cpu_times()
    return times.children_user + times.children_system


def ffmpeg_command(uri: str, clips: list[dict], recipe: CurateRecipe, folder: Path) -> list[str]:
    """One ffmpeg that decodes `uri` once and writes each clip, cropped, as an mp4; decoding alone if there are none."""
    source = ffmpeg.input(uri, threads=1)
    if not clips:
        return ffmpeg.output(source.video, "-", format="null").compile(cmd=imageio_ffmpeg.get_ffmpeg_exe())
    copies = source.video.split()
    outputs = []
    for i, clip in enumerate(clips):
        part = copies[i].filter("trim", start_frame=clip["start_frame"], end_frame=clip["end_frame"])
        part = part.filter("setpts", "PTS-STARTPTS")
        part = part.filter("crop", *(clip[f"crop_{side}"] for side in "whxy"))
        part = part.filter("scale", clip["width"], clip["height"])
        outputs.append(
            ffmpeg.output(
                part,
                str(folder / f"{i}.mp4"),
                vcodec="libx264",
                pix_fmt="yuv420p",
                preset=recipe.encode.preset,
                crf=recipe.encode.crf,
                threads=1,
                fps_mode="passthrough",
                movflags="+faststart",
                **{"x264-params": "mbtree=0"},
            )
        )
    return ffmpeg.merge_outputs(*outputs).overwrite_output().compile(cmd=imageio_ffmpeg.get_ffmpeg_exe())


if __name__ == "__main__":
    main()
