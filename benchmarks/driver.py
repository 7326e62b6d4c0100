"""CPU of a curation's driver, per source and per clip: how many cores one driver feeds.

    python -m benchmarks.driver [SOURCES …]              # 500 2000 5000
    python -m benchmarks.driver --small 2000             # files of one clip alone
    python -m benchmarks.driver --profile FILE 2000      # a cProfile of the driver's Python, and CPU by thread

Real: Ray, its tasks, the driver (`Curation`, `Flow`, `Committer`), the store and the task that writes clips into it.
Stand-ins: the tasks that probe, scan and cut. They sleep for the CPU seconds that the real ones took, and hand back
what those found, under other MD5s and ids, so that two cores seem to be WORKERS of them. Two kinds of source are
recorded first: `small`, a file of 4 s that becomes one clip, and `film`, one of SHOTS clips.

Prints `name value` lines: milliseconds of CPU of the driver's process, all threads, per source and per clip, with the
largest resident memory; `floor`: what Ray itself takes per task that does nothing, submitted and fetched; `idle`: the
share of a core that the process takes while it waits. Ray's threads do, in proportion to time and not to sources: a few
workers stretch the time, so the figures come with and without it.
"""

import cProfile
import functools
import hashlib
import os
import pstats
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reelwright.curation import usage
from reelwright.curation.ingest.inputs import Input, Inputs
from reelwright.curation.records.history import History
from reelwright.curation.results import Probed
from reelwright.curation.store import Store
from reelwright.pipelines.annotate.load import load_annotators, prepare_columns
from reelwright.pipelines.annotate.run import runs_while_cutting
from reelwright.pipelines.curate.driver import Curation
from reelwright.pipelines.curate.sources import Source
from reelwright.pipelines.curate.work import scan_job, settings_of, stages_of
from reelwright.pipelines.curate.workers import tasks, whole_sources
from reelwright.pipelines.curate.workers.results import Cut, Scanned
from reelwright.pipelines.curate.workers.tasks import CutJob
from reelwright.pipelines.curate.workers.whole_sources import ScanJob
from reelwright.pipelines.recipes.curation import CurateRecipe, load_recipe
from reelwright.pipelines.runtime.progress import Progress
from tests.footage import frames, shots, write

WORKERS = 24
SHOTS, SHOT_FRAMES = 32, 30
SIZES = (500, 2000, 5000)
FLOOR_TASKS = 3000
WARM = 60
IDLE_S = 10.0


@dataclass(frozen=True)
class Recorded:
    """What the real tasks found in one file, and the seconds of CPU that they took: as if no other work were there."""

    probed: Probed
    scanned: Scanned
    cuts: tuple[tuple[Cut, list[bytes]], ...]
    scan_s: float

    @property
    def clips(self) -> int:
        """Clips of the source."""
        return len(self.scanned.clip_ids)


def record(path: Path, recipe: CurateRecipe, light: Sequence[str]) -> Recorded:
    """Do the real work on one file, in this process and its sandbox. light: annotators that share the cut's decode."""
    limits = recipe.limits.model_dump()
    settings = settings_of(recipe, light, limits).model_copy(update={"cut_at_once": False})
    text = settings.model_dump_json()
    for _ in range(2):  # the first loads libraries
        usage.begin()
        (probed,) = whole_sources.probe_sources([str(path)], limits, False)
        probe_s = usage.laps()["probe"].used.cpu_s
        job, cuts = scan_job(Source(Input(str(path)), probed), None, 0.0), []
        usage.begin()
        (scanned,), _ = whole_sources.scan_sources([job], text)
        scan_s = usage.laps()["scan"].used.cpu_s
        assert isinstance(scanned, Scanned)
        for batch in scanned.batches:
            usage.begin()
            cut, mp4s = tasks.cut(CutJob(job.uri, job.md5, batch, scanned.rate, job.was), text)
            cuts.append((replace(cut, seconds=usage.end().cpu_s), mp4s))
    return Recorded(replace(probed, seconds=probe_s), scanned, tuple(cuts), scan_s)


# --- stand-ins: they sleep ------------------------------------------------------------------------------------------


def probe_stand_in(known: Recorded, uris: Sequence[str], limits: Any, images: bool) -> list[Probed]:
    time.sleep(known.probed.seconds * len(uris))
    return [replace(known.probed, md5=hashlib.md5(uri.encode()).hexdigest()) for uri in uris]


def scan_stand_in(known: Recorded, jobs: Sequence[ScanJob], settings: str) -> tuple[list[Scanned], list[bytes]]:
    found, mp4s = [], []
    for job in jobs:
        time.sleep(known.scan_s)
        rows = [shot | {"source_md5": job.md5} for shot in known.scanned.shots]
        ids = [_id(job.md5, n) for n in range(known.clips)]
        names = iter(ids)
        batches = [[replace(clip, clip_id=next(names)) for clip in batch] for batch in known.scanned.batches]
        one = replace(known.scanned, shots=rows, clip_ids=ids, batches=batches)
        if len(batches) == 1:
            cut, blobs = cut_stand_in(known, CutJob(job.uri, job.md5, batches[0], one.rate), settings)
            one, mp4s = replace(one, batches=(), cut=cut), mp4s + blobs
        found.append(one)
    return found, mp4s


def cut_stand_in(known: Recorded, job: CutJob, settings: str) -> tuple[Cut, list[bytes]]:
    cut, blobs = next(c for c in known.cuts if len(c[0].clips) == len(job.clips))
    time.sleep(cut.seconds)
    of = zip(cut.clips, job.clips, strict=True)
    clips = [replace(c, row=c.row | {"clip_id": p.clip_id, "source_md5": job.md5}) for c, p in of]
    return replace(cut, clips=clips), blobs


def _id(md5: str, number: int) -> str:
    return f"{md5[:20]}{number:04d}"


# --- measuring ------------------------------------------------------------------------------------------------------


def run(folder: Path, recipe: CurateRecipe, known: Recorded, sources: int, idle_share: float = 0.0) -> dict[str, float]:
    """Curate so many sources; return what the driver took. idle_share: of a core that it takes while it waits."""
    store = Store.open(folder, create=True)
    prepare_columns(store, load_annotators(recipe))
    files = [Input(f"/footage/{number:09d}.mp4") for number in range(sources)]
    real = stages_of(recipe)
    stand_ins = {"probe": probe_stand_in, "scan": scan_stand_in, "cut": cut_stand_in}
    stages = real | {
        name: (functools.partial(function, known), *real[name][1:]) for name, function in stand_ins.items()
    }
    with store.committing():
        history = History(store, files, recipe.cutting_fingerprint)
        curation = Curation(store, recipe, Inputs(files), history, (), stages)
        cpu, wall = time.process_time(), time.monotonic()
        summary = curation.run(Progress("driver", quiet=True))
        cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    assert (summary.ok, summary.clips) == (sources, sources * known.clips), summary
    return {
        "cpu_ms_per_source": 1000 * cpu / sources,
        "cpu_ms_per_source_without_idle": 1000 * (cpu - idle_share * wall) / sources,
        "cpu_ms_per_clip": 1000 * cpu / summary.clips,
        "clips_per_s": summary.clips / wall,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def floor() -> float:
    """Milliseconds of this process's CPU per task of Ray that does nothing."""
    import ray

    task = ray.remote(_nothing).options(num_cpus=1)
    ray.get([task.remote(b"x" * 200) for _ in range(WORKERS)])
    cpu = time.process_time()
    ray.get([task.remote(b"x" * 200) for _ in range(FLOOR_TASKS)])
    return 1000 * (time.process_time() - cpu) / FLOOR_TASKS


def threads() -> list[tuple[str, float]]:
    """Return (name, CPU seconds) of this process's threads, the busiest first; of one name together."""
    found = Counter[str]()
    for task in Path("/proc/self/task").iterdir():
        name, rest = (task / "stat").read_text().split("(", 1)[1].rsplit(")", 1)
        found[name] += sum(map(int, rest.split()[11:13])) / os.sysconf("SC_CLK_TCK")
    return found.most_common(12)


def idle() -> float:
    """Share of a core that this process takes while all workers are at work and it waits for them as `Flow` does."""
    import ray

    task = ray.remote(_sleep).options(num_cpus=1)
    refs = [task.remote(IDLE_S) for _ in range(WORKERS)]
    cpu, wall = time.process_time(), time.monotonic()
    while len(ray.wait(refs, num_returns=len(refs), timeout=1.0)[0]) < len(refs):
        pass
    return (time.process_time() - cpu) / (time.monotonic() - wall)


def _sleep(seconds: float) -> None:
    time.sleep(seconds)


def _nothing(given: bytes) -> bytes:
    return given


def main() -> None:
    import ray

    arguments = sys.argv[1:]
    profile = arguments[arguments.index("--profile") + 1] if "--profile" in arguments else None
    sizes = [int(a) for a in arguments if a.isdigit()] or list(SIZES)
    recipe = load_recipe(None, {"encode.preset": "ultrafast", "shots.detector": "pyscenedetect"})
    light = [name for name, annotator in load_annotators(recipe).items() if runs_while_cutting(annotator)]
    with tempfile.TemporaryDirectory(prefix="reel-driver-") as name:
        folder = Path(name)
        kinds = {"small": (frames(100), 1)} | (
            {} if "--small" in arguments else {"film": (shots([SHOT_FRAMES] * SHOTS), SHOTS)}
        )
        recorded = {
            kind: record(write(folder / f"{kind}.mp4", pictures), recipe, light)
            for kind, (pictures, _) in kinds.items()
        }
        ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, logging_level="error",
                 _system_config={"enable_metrics_collection": False})  # fmt: skip
        print(f"driver.floor.cpu_ms_per_task {floor():.3f}", flush=True)
        share = idle()
        print(f"driver.idle.share_of_a_core {share:.4f}", flush=True)
        watch = cProfile.Profile(time.thread_time)
        for kind, (_, films) in kinds.items():
            known = recorded[kind]
            run(folder / f"store-{kind}", recipe, known, WARM)  # imports, and Ray's workers
            print(f"driver.{kind}.clips_per_source {known.clips}", flush=True)
            for sources in (max(1, size // films) for size in sizes):
                if profile:
                    watch.enable()
                found = run(folder / f"store-{kind}-{sources}", recipe, known, sources, share)
                watch.disable()
                for what, value in found.items():
                    print(f"driver.{kind}.{sources}.{what} {value:.3f}", flush=True)
        if profile:
            watch.dump_stats(profile)
            pstats.Stats(profile).sort_stats("tottime").print_stats(45)
            for thread, seconds in threads():
                print(f"driver.thread.{thread} {seconds:.2f}")


if __name__ == "__main__":
    main()
