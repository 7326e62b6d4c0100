"""The cost of a plan of many clips: to make once, and for each rank to start on.

    python -m benchmarks.plan_scale [CLIPS …]                      # 1_000_000; 10_000_000 takes minutes
    python -m benchmarks.plan_scale --store [CLIPS …]              # what reading a snapshot takes, too

Synthetic rows with three captions each, as they are once read from a store, in no order and some at a time, are made
into a plan and a file (`build`), as the first rank does once; making up the rows is not counted. Then a process of its
own maps the file, makes the schedule and its first step (`start`), as every rank does at each start; another goes on
after a million draws without knowing its place (`resume`). With `--store`, the rows are put into a store, a third of
the clips with captions of their own, a third with their source's, and read from it into a plan and a file (`make`), as
the first rank does where the store has all samples. Prints `name value` lines: seconds of CPU and wall, MiB of the
file, and MiB of resident memory beyond what importing takes, mapped pages included.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from reelwright.curation.store import Store
from reelwright.training.data.mix_rows import ordered_rows, training_rows
from reelwright.training.data.plan import read_plan, write_plan
from reelwright.training.data.plan_making import plan_of
from reelwright.training.data.rows import hashed
from reelwright.training.data.schedule import Schedule
from reelwright.training.recipe_file import load_recipe

RECIPE = Path(__file__).parent.parent / "configs/train/stage4-all-480p.yaml"
SHAPES = ((1280, 720), (720, 1280), (1080, 1080), (1440, 1080))
CAPTIONS = 3
LATE = 1_000_000  # draws
ROWS = 32_768  # made up at a time
SCATTER = 2_654_435_761  # a prime: ids in no order, each once


def main() -> None:
    of_store = "--store" in sys.argv
    counts = [int(n) for n in sys.argv[1:] if n != "--store"] or [1_000_000]
    for clips in counts:
        with tempfile.TemporaryDirectory(prefix="reel-plan-") as folder:
            path = Path(folder) / "clips.arrow"
            if of_store:
                measured(f"plan_scale.{clips}", "fill", path, str(clips))
                measured(f"plan_scale.{clips}", "make", path)
                continue
            measured(f"plan_scale.{clips}", "build", path, str(clips))
            print(f"plan_scale.{clips}.file_mib {path.stat().st_size / 2**20:.0f}")
            measured(f"plan_scale.{clips}", "start", path)
            measured(f"plan_scale.{clips}", "resume", path)


def measured(name: str, what: str, path: Path, *more: str, module: str = "benchmarks.plan_scale") -> None:
    """Run a part of a benchmark in a process of its own, and print its output."""
    command = [sys.executable, "-m", module, "--part", what, str(path), *more]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for key, value in json.loads(said.splitlines()[-1]).items():
        print(f"{name}.{what}.{key} {value:.2f}", flush=True)


def part(what: str, path: Path, clips: int) -> dict[str, float]:
    recipe, made = load_recipe(RECIPE), MadeUp(clips)
    idle, wall, cpu = resident(), time.monotonic(), time.process_time()
    if what == "fill":
        store = Store.open(path.parent / "store", create=True)
        fill(store, pa.concat_tables(made.tables()).combine_chunks())
    elif what == "make":
        rows = training_rows(Store.open(path.parent / "store"), "all", recipe.data, hashes=True)
        write_plan(plan_of(rows, recipe.data, recipe.tasks), path, {})
    elif what == "build":
        rows = ordered_rows(with_hashes(table) for table in made.tables())
        write_plan(plan_of(rows, recipe.data, recipe.tasks), path, {})
    else:
        schedule = Schedule(read_plan(path), recipe.data, recipe.tasks, recipe.model, recipe.seed)
        late = what == "resume" and LATE // schedule.block
        while late and len(schedule.starts) <= late:
            schedule.block_batches(len(schedule.starts) - 1)
        step = schedule.starts[-1] // recipe.data.batches_per_step
        for micro in schedule.step(step):
            for draw in micro.samples:
                schedule.captions_of(draw.row)
    cpu, wall = cpu + made.cpu_s, wall + made.wall_s
    return {"wall_s": time.monotonic() - wall, "cpu_s": time.process_time() - cpu, "mib": resident() - idle}


def with_hashes(table: pa.Table) -> pa.Table:
    at = table.schema.get_field_index("captions")
    return table.set_column(at, "captions", hashed(table.column("captions").combine_chunks()))


def fill(store: Store, made: pa.Table) -> None:
    """Put rows into a store, and make a snapshot of all of them."""
    number = np.arange(len(made)) % 3
    kind = pa.list_(pa.struct([("text", pa.string()), ("kind", pa.string())]))
    texts = made.column("captions").combine_chunks()
    told = pa.StructArray.from_arrays(
        [texts.values.cast(pa.string()), pa.array(["caption"] * len(texts.values))], ["text", "kind"]
    )
    own = pa.ListArray.from_arrays(texts.offsets, told)
    captions = pa.compute.if_else(pa.array(number == 0), own, pa.nulls(len(made), kind))
    store.ensure_columns("clips", [pa.field("captions", kind)])
    plain = made.drop_columns(["captions", "weight"])
    plain = plain.set_column(0, "clip_id", plain.column("clip_id").cast(pa.string()))
    plain = plain.set_column(1, "source_md5", plain.column("source_md5").cast(pa.string()))
    store.append("clips", plain.append_column("captions", captions))
    sources = pa.table({
        "uri": plain.column("clip_id"), "md5": plain.column("source_md5"), "state": pa.array(["ok"] * len(made)),
        "caption": pa.compute.if_else(pa.array(number == 1), plain.column("clip_id"), None),
    })  # fmt: skip
    store.append("sources", sources)
    ids = plain.column("clip_id").to_pylist()
    store.commit_media([store.write_media(ids, [b"x"] * len(ids))])
    store.snapshots.create("all", "select clip_id from clips")


def resident() -> float:
    """MiB, at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class MadeUp:
    """Rows of clips, ids in no order, and what it took to make them up."""

    def __init__(self, clips: int) -> None:
        self.clips, self.cpu_s, self.wall_s = clips, 0.0, 0.0

    def tables(self) -> Iterator[pa.Table]:
        for first in range(0, self.clips, ROWS):
            cpu, wall = time.thread_time(), time.monotonic()
            table = self._table(first, min(first + ROWS, self.clips))
            self.cpu_s, self.wall_s = self.cpu_s + time.thread_time() - cpu, self.wall_s + time.monotonic() - wall
            yield table

    def _table(self, first: int, last: int) -> pa.Table:
        rng, clips = np.random.default_rng(first), last - first
        sizes = np.array(SHAPES)[rng.choice(len(SHAPES), clips, p=(0.7, 0.15, 0.05, 0.1))]
        numbers = pa.array(np.arange(first, last) * SCATTER % self.clips)
        ids: Any = pa.compute.utf8_lpad(numbers.cast(pa.large_string()), 24, "0")
        told = pa.array(np.arange(CAPTIONS * first, CAPTIONS * last)).cast(pa.large_string())
        offsets = pa.array(np.arange(0, CAPTIONS * clips + 1, CAPTIONS, dtype=np.int32))
        return pa.table({
            "clip_id": ids, "source_md5": pa.compute.utf8_slice_codeunits(ids, 0, 23),
            "width": sizes[:, 0], "height": sizes[:, 1], "weight": rng.lognormal(size=clips),
            "fps": np.full(clips, 24.0),
            "num_frames": np.rint(24 * np.exp(rng.uniform(np.log(2), np.log(20), clips))).astype(np.int64),
            "captions": pa.ListArray.from_arrays(offsets, pa.compute.utf8_lpad(told, 40, "x")),
        })  # fmt: skip


if __name__ == "__main__":
    if "--part" in sys.argv:
        print(json.dumps(part(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]) if len(sys.argv) > 4 else 0)))
    else:
        main()
