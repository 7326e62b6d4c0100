"""The cost of curation over plain ffmpeg: CPU seconds of a whole default run over decoding and encoding alone.

    python -m benchmarks.cost ../shared/corpus [--set KEY=VALUE]

The floor, in the same run: one single-threaded ffmpeg per source, which decodes it once and encodes the same clips with
the same settings. CPU seconds are of all processes, without the start of Ray. Prints `name value`.

All sources are curated in one run, as a user's are: in several runs into one store, annotators of sets fit all clips so
far once per run, and each run starts its workers' libraries and merges the store's files.

A virtual machine gives other CPU seconds for the same work from minute to minute, and with all cores busy others than
with one. So half of the sources' floor is measured right before the run and the other half right after it, and ffmpegs
work side by side, one per core, as the run's workers do: a machine that gets slower or faster all the while favours
neither side. The halves encode about as many pixels each; where their seconds differ much, the machine was not steady.

The clips that the floor encodes are known from an earlier run over the same sources into a store that is thrown away.
It is not measured, and leaves Python's bytecode behind, as there is wherever something has run before. Without it each
process would compile its imports, torch, Ray and Lance among them.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import ffmpeg
import imageio_ffmpeg
import psutil

from reelwright.curation.ingest.inputs import Inputs
from reelwright.curation.ingest.resolve import list_inputs
from reelwright.curation.store import Store
from reelwright.pipelines.curate.run import run_all
from reelwright.pipelines.curate.sources import Summary
from reelwright.pipelines.recipes.curation import CurateRecipe, load_recipe, parse_overrides
from reelwright.pipelines.runtime.cluster import cluster

SETTLE_S = 3.0  # for the workers that Ray starts ahead of any task
SAMPLE_S = 0.05


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
    args = parser.parse_args()
    recipe = load_recipe(None, parse_overrides(args.settings))
    inputs = list_inputs([str(args.folder)])
    first, second = halves(known_sources(recipe, inputs))
    before_s = floor(first, recipe)
    cost = curate(recipe, inputs)
    after_s = floor(second, recipe)
    print(f"run_cpu_s                {cost.cpu_s:.1f}")
    print(f"floor_cpu_s              {before_s + after_s:.1f} ({before_s:.1f} before, {after_s:.1f} after)")
    print(f"cost_ratio               {cost.cpu_s / (before_s + after_s):.3f}")
    print(f"wall_s                   {cost.wall_s:.1f}")
    for stage, seconds in cost.summary.stage_seconds.items():
        print(f"{stage + '_task_wall_s':24} {seconds:.1f}")
    print(f"clips                    {cost.summary.clips}")


@dataclass(frozen=True)
class Source:
    """A readable source and the rows of its clips."""

    uri: str
    clips: list[dict]

    @property
    def encoded_pixels(self) -> int:
        """Pixels of all frames of its clips."""
        return sum(clip["width"] * clip["height"] * (clip["end_frame"] - clip["start_frame"]) for clip in self.clips)


@dataclass(frozen=True)
class Cost:
    """Of curating: seconds of CPU and of wall, and the summary of the run."""

    cpu_s: float
    wall_s: float
    summary: Summary


def known_sources(recipe: CurateRecipe, inputs: Inputs) -> list[Source]:
    """Curate the inputs, unmeasured: return their readable sources, and leave bytecode of all that a run imports."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    with tempfile.TemporaryDirectory() as folder, local_ray():
        store = Store.open(Path(folder) / "store", create=True)
        run_all(store, recipe, inputs, quiet=True)
        clips: dict[str, list[dict]] = {}
        for clip in store.read("clips").to_pylist():
            clips.setdefault(clip["source_md5"], []).append(clip)
        rows = store.read("sources", filter="state = 'ok'").to_pylist()
        return [Source(row["uri"], clips.get(row["md5"], [])) for row in rows]


def halves(sources: list[Source]) -> tuple[list[Source], list[Source]]:
    """Share sources out to two lists that encode about as many pixels."""
    ordered = sorted(sources, key=lambda source: (-source.encoded_pixels, source.uri))
    found: tuple[list[Source], list[Source]] = ([], [])
    for source in ordered:
        min(found, key=lambda half: sum(s.encoded_pixels for s in half)).append(source)
    return found


def curate(recipe: CurateRecipe, inputs: Inputs) -> Cost:
    """Curate inputs into a new store, on a Ray that has just started."""
    with tempfile.TemporaryDirectory() as folder, local_ray():
        store, meter = Store.open(Path(folder) / "store", create=True), CpuMeter()
        before = meter.total_s() - sampling_s(meter)
        wall = time.monotonic()
        summary, _ = run_all(store, recipe, inputs)
        wall_s = time.monotonic() - wall
        cpu_s = meter.total_s() - sampling_s(meter) - before
        meter.stop()
        return Cost(cpu_s, wall_s, summary)


@contextmanager
def local_ray() -> Iterator[None]:
    """Ray as `reel curate` starts it, and its first workers."""
    with cluster():
        time.sleep(SETTLE_S)
        yield


def sampling_s(meter: CpuMeter) -> float:
    """CPU seconds that the meter's own thread has taken: not curation's."""
    threads = {t.id: t.user_time + t.system_time for t in psutil.Process().threads()}
    return threads.get(meter.thread.native_id or 0, 0.0)


def floor(sources: list[Source], recipe: CurateRecipe) -> float:
    """CPU seconds of plain ffmpeg: decode each of these sources once, encode its clips; one ffmpeg per core."""

    def run(source: Source) -> None:
        with tempfile.TemporaryDirectory() as folder:
            command = ffmpeg_command(source, recipe, Path(folder))
            subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True)

    before = _children_s()
    with ThreadPoolExecutor(psutil.cpu_count()) as pool:
        list(pool.map(run, sources))
    return _children_s() - before


def _children_s() -> float:
    times = psutil.Process().cpu_times()
    return times.children_user + times.children_system


def ffmpeg_command(source: Source, recipe: CurateRecipe, folder: Path) -> list[str]:
    """One ffmpeg that decodes a source once and writes each clip, cropped, as an mp4; decoding alone if it has none."""
    video = ffmpeg.input(source.uri, threads=1).video
    if not source.clips:
        return ffmpeg.output(video, "-", format="null").compile(cmd=imageio_ffmpeg.get_ffmpeg_exe())
    copies = video.split()
    outputs = []
    for i, clip in enumerate(source.clips):
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
