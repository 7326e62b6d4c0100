"""Where the samples of many clips lie: looked up once by the first rank of a run whose samples are all precomputed.

    python -m benchmarks.sample_places [CLIPS …]              # 1_000_000; 10_000_000 takes half an hour

Synthetic rows of clips, with the hashes of three captions each, are made into a plan and a file as in
`benchmarks.plan_scale`, and a store gets a row for each latent and each caption that the plan may draw, without its
bytes (`fill`). Then a process of its own looks up where all lie, tests that none is missing, and writes the files that
every rank maps (`look_up`). Prints `name value` lines: seconds of wall and CPU, and MiB of resident memory, the largest
so far, beyond what importing takes.
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks import plan_scale
from reelwright.curation.store import Store, datasets
from reelwright.training.data.encode import Fingerprints
from reelwright.training.data.latents import StoredSamples
from reelwright.training.data.mix_rows import ordered_rows
from reelwright.training.data.plan import Plan, read_plan, write_plan
from reelwright.training.data.plan_making import plan_of
from reelwright.training.data.schedule import Schedule
from reelwright.training.data.windows import wanted_windows
from reelwright.training.recipe_file import load_recipe

ROWS = 262_144  # written at a time
BYTES, TOKENS = 1_000, 20


def main() -> None:
    for clips in [int(n) for n in sys.argv[1:]] or [1_000_000]:
        with tempfile.TemporaryDirectory(prefix="reel-places-") as folder:
            for what in ("fill", "look_up"):
                plan_scale.measured(
                    f"sample_places.{clips}", what, Path(folder) / "clips.arrow", str(clips),
                    module="benchmarks.sample_places",
                )  # fmt: skip


def part(what: str, path: Path, clips: int) -> dict[str, float]:
    recipe = load_recipe(plan_scale.RECIPE)
    prints, store = Fingerprints("latents", "texts"), Store.open(path.parent / "store", create=what == "fill")
    idle, wall, cpu = plan_scale.resident(), time.monotonic(), time.process_time()
    if what == "fill":
        rows = ordered_rows(plan_scale.with_hashes(table) for table in plan_scale.MadeUp(clips).tables())
        plan = plan_of(rows, recipe.data, recipe.tasks)
        write_plan(plan, path, {})
        schedule = Schedule(plan, recipe.data, recipe.tasks, recipe.model, recipe.seed)
        put(store, "latents", latents_of(schedule, prints.latents))
        put(store, "texts", texts_of(plan, prints.texts))
    else:
        schedule = Schedule(read_plan(path), recipe.data, recipe.tasks, recipe.model, recipe.seed)
        samples = StoredSamples(store, schedule, prints)
        missing = samples.missing()
        assert not missing, f"{missing.count} of {missing.wanted} and {len(missing.captions)} are missing"
        samples.index.write(path.parent)
    found = {"wall_s": time.monotonic() - wall, "cpu_s": time.process_time() - cpu, "mib": plan_scale.resident() - idle}
    return found | {f"{t}_rows": store.count(t) for t in ("latents", "texts") if what == "fill"}


def latents_of(schedule: Schedule, fingerprint: str) -> Iterator[pa.Table]:
    rng = np.random.default_rng(0)
    for window, rows in wanted_windows(schedule):
        scattered = rng.permutation(rows)
        for start in range(0, len(scattered), ROWS):
            ids = schedule.clip_ids.take(pa.array(scattered[start : start + ROWS])).cast(pa.string())
            yield pa.table({
                "clip_id": ids, "bucket": pa.array([window.key] * len(ids)),
                "encoder_fingerprint": pa.array([fingerprint] * len(ids)), "bytes": np.full(len(ids), BYTES),
                "shape": pa.array([[16, *window.bucket.latent]] * len(ids), pa.list_(pa.int32())),
            })  # fmt: skip


def texts_of(plan: Plan, fingerprint: str) -> Iterator[pa.Table]:
    for hashes in plan.caption_parts():
        count = len(hashes)
        yield pa.table({
            "caption_hash": pa.array([one.hex() for one in hashes.to_pylist()]),
            "encoder_fingerprint": pa.array([fingerprint] * count), "bytes": np.full(count, BYTES),
            "shape": pa.array([[TOKENS, 4096]] * count, pa.list_(pa.int32())),
        })  # fmt: skip


def put(store: Store, table: str, parts: Iterator[pa.Table]) -> None:
    """Commit rows without their bytes."""
    import lance
    from lance.fragment import write_fragments

    schema = store.schema(table)
    for rows in parts:
        blobs = lance.blob_array([None] * len(rows))
        columns = [
            rows[f.name].combine_chunks() if f.name in rows.column_names
            else blobs if f.type == blobs.type else pa.nulls(len(rows), f.type) for f in schema
        ]  # fmt: skip
        fragments = write_fragments(
            pa.Table.from_arrays(columns, schema=schema), store.dataset(table), mode="append",
            data_storage_version=datasets.STORAGE_VERSION,
        )  # fmt: skip
        store.commit_encoded(table, [json.dumps([one.to_json() for one in fragments])])


if __name__ == "__main__":
    if "--part" in sys.argv:
        print(json.dumps(part(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))))
    else:
        main()
