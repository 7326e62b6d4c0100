"""One long film, scanned whole and in parts: CPU seconds of each step, and that the results are equal.

    python -m benchmarks.long_film [--minutes 20] [--part-s 300] [--workers 1 2]

The film is `benchmarks.memory`'s: a minute of moving 1080p pictures, its packets looped. Prints `name value`.
Steps run one after the other in one sandbox; `ideal_…` is the time on so many idle cores that follows from their CPU
seconds: splitting, the parts side by side, joining. With `--workers` the film is scanned by a Ray of so many CPUs as
well, and wall seconds are what the machine gives.
"""

import argparse
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import ray

from benchmarks.memory import loop, minute
from reelwright.curation import usage
from reelwright.curation.media.sandbox import Reply, Sandbox
from reelwright.curation.scan_parts import split_from_json
from reelwright.pipelines.curate.workers import film
from reelwright.pipelines.curate.workers.film import SANDBOXED
from reelwright.pipelines.recipes.curation import CurateRecipe
from reelwright.pipelines.runtime.cluster import LOCAL


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--part-s", type=float, default=300)
    parser.add_argument("--workers", type=int, nargs="*", default=[])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = loop(minute(Path(folder) / "minute.mp4"), Path(folder) / "film.mp4", args.minutes * 60)
        steps(path, args.part_s, Path(folder))
        for workers in args.workers:
            with_ray(path, args.part_s, workers)


def steps(path: Path, part_s: float, folder: Path) -> None:
    recipe, sandbox = CurateRecipe(), Sandbox()
    how = {"shots": recipe.shots.model_dump(), "borders": recipe.borders.model_dump()}
    bounds = {"max_frames": recipe.limits.max_frames}

    def cpu_s(function: str, **arguments: object) -> tuple[Reply, float]:
        usage.begin()
        reply = sandbox.call(function, arguments)
        return reply, usage.end().cpu_s

    scan = "reelwright.pipelines.curate.workers.sandboxed:scan_source"
    cpu_s(scan, uri=str(path.with_name("minute.mp4")), **how, **bounds)
    whole, whole_s = cpu_s(scan, uri=str(path), **how, **bounds)
    split, split_s = cpu_s(f"{SANDBOXED}:split_film", uri=str(path), part_s=part_s, shots=how["shots"], **bounds)
    found, values, files, parts_s, num_bytes = split_from_json(split.value, split.blobs[0]), [], [], [], 0
    for number, part in enumerate(found.parts):
        pts = found.pts[part.key : part.end].tolist()
        reply, seconds = cpu_s(
            f"{SANDBOXED}:look_at_part", uri=str(path), part=asdict(part), pts=pts, borders=how["borders"]
        )
        parts_s.append(seconds)
        num_bytes += sum(map(len, reply.blobs))
        values.append(reply.value)
        files.append([film._laid_down(folder / f"{number}-{i}", blob) for i, blob in enumerate(reply.blobs)])
    pts_file = film._laid_down(folder / "pts", split.blobs[0])
    joined, join_s = cpu_s(
        f"{SANDBOXED}:join_parts", split=split.value, pts=pts_file, parts=values, files=files, **how, **bounds
    )
    sandbox.close()
    print(f"frames                  {len(found.pts)}")
    print(f"shots                   {len(joined.value['shots'])}")
    print(f"equal                   {(joined.value, joined.blobs) == (whole.value, whole.blobs)}")
    print(f"whole_cpu_s             {whole_s:.1f}")
    print(f"split_cpu_s             {split_s:.1f}")
    print(f"parts_cpu_s             {sum(parts_s):.1f} ({len(parts_s)}: {', '.join(f'{s:.1f}' for s in parts_s)})")
    print(f"join_cpu_s              {join_s:.1f}")
    print(f"overhead                {(split_s + sum(parts_s) + join_s) / whole_s - 1:.3f}")
    print(f"bytes_per_frame         {num_bytes / len(found.pts):.0f}")
    for workers in (2, 4, 8):
        ideal_s = split_s + sum(parts_s) / workers + join_s
        print(f"ideal_{workers}_workers         {ideal_s:.1f} s, {whole_s / ideal_s:.2f} times as fast as one")


def with_ray(path: Path, part_s: float, workers: int) -> None:
    """Scan the film as a task of a run does, on a Ray of so many CPUs that has scanned before."""
    recipe = CurateRecipe()
    how = {"shots": recipe.shots.model_dump(), "borders": recipe.borders.model_dump()}
    ray.init(**LOCAL, num_cpus=workers, log_to_driver=False, logging_level="error")
    scan = ray.remote(film.scan)
    ray.get(scan.remote(str(path.with_name("minute.mp4")), *how.values(), recipe.limits.model_dump(), None, 20.0))
    began = time.monotonic()
    ray.get(scan.remote(str(path), *how.values(), recipe.limits.model_dump(), None, part_s if workers > 1 else 0.0))
    print(f"wall_{workers}_workers          {time.monotonic() - began:.1f} s")
    ray.shutdown()


if __name__ == "__main__":
    main()
