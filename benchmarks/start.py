"""What a run takes until its first task: listing inputs, the history of those that are done, leftovers of a killed run.

    python -m benchmarks.start [KIND] [SOURCES …]        # 100_000 1_000_000; 10_000_000 needs 8 GB of disk, told 20

A store of so many sources, each with a shot and a clip, is filled with synthetic rows (`fill`). A Parquet manifest
names them all and NEW more, at an object store's addresses, which are not asked; by KIND, with nothing else (`bare`),
with an id, a licence, a caption and a part of the file (`told`), or so in four rows, of four parts (`parts`). Then
processes of their own list the manifest (`list`), read the history (`history`) and look for leftovers (`leftovers`), as
a run does: `cold`, without an index of the sources, which it makes, and `warm`, after a run has finished (`finish`, its
last step). Prints `name value` lines: seconds of wall and CPU of each, and MiB of resident memory, the largest so far,
beyond what importing takes.
"""

import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reelwright.curation.clips import with_spans
from reelwright.curation.ingest.inputs import Span
from reelwright.curation.ingest.resolve import list_inputs
from reelwright.curation.records.history import History
from reelwright.curation.store import Store, known_shelf
from reelwright.curation.store.leftovers import note_finished

PARTS = ("fill", "cold", "finish", "warm")
KINDS = {"bare": 0, "told": 1, "parts": 4}  # to rows of the manifest that name parts of one file
SIZES = (100_000, 1_000_000)
NEW = 1_000
BATCH = 1_000_000
CUTTING = "0123456789abcdef"
CAPTION = "A person in a red coat crosses a wet street by night, while cars wait at the light of scene"


def main() -> None:
    given = sys.argv[1:]
    kind = given.pop(0) if given and given[0] in KINDS else "bare"
    for sources in [int(a) for a in given] or SIZES:
        with tempfile.TemporaryDirectory(prefix="reel-start-") as folder:
            for part in PARTS:
                command = [sys.executable, "-m", "benchmarks.start", "--part", part, folder, str(sources), kind]
                said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                for key, value in json.loads(said.splitlines()[-1]).items():
                    print(f"start.{kind}.{sources}.{key} {value:.2f}", flush=True)


def part(what: str, folder: Path, sources: int, rows: int) -> dict[str, float]:
    if what == "fill":
        clock = time.monotonic()
        fill(folder, sources, rows)
        return {"fill.wall_s": time.monotonic() - clock}
    store, found = Store.open(folder / "store"), dict[str, float]()
    idle = resident()

    @contextmanager
    def noted(name: str) -> Iterator[None]:
        wall, cpu = time.monotonic(), time.process_time()
        yield
        name = f"{what}.{name}"
        found[f"{name}.wall_s"], found[f"{name}.cpu_s"] = time.monotonic() - wall, time.process_time() - cpu
        found[f"{name}.mib"] = resident() - idle

    if what == "finish":
        with store.committing(), noted("index"):
            note_finished(store)
        kept = folder / "store" / known_shelf.FOLDER
        return found | {"finish.index.disk_mib": sum(p.stat().st_size for p in kept.glob("*")) / 2**20}
    with store.committing():
        with noted("list"):
            inputs = list_inputs([str(folder / "inputs.parquet")])
        with noted("history"):
            history = History(store, inputs.files, CUTTING)
        assert len(history.todo) == NEW, len(history.todo)
        assert history.done_before["ok"] == sources, history.done_before
        with noted("leftovers"):
            history.clear_leftovers()
    return found


def fill(folder: Path, sources: int, rows: int) -> None:
    """Fill a store and write the manifest. rows: of the manifest, for each file; 0: one of its address alone."""
    store, file = Store.open(folder / "store", create=True), folder / "inputs.parquet"
    with pq.ParquetWriter(file, manifest_of(pa.array([0]), rows).schema) as manifest:
        for start in range(0, sources, BATCH):
            numbers = pa.array(np.arange(start, min(sources, start + BATCH)))
            manifest.write_table(manifest_of(numbers, rows))
            uris, md5s, count = uris_of(numbers), md5s_of(numbers), len(numbers)
            store.append("shots", pa.table({"source_md5": md5s, "shot_index": np.zeros(count, np.int32)}))
            ids = pc.utf8_slice_codeunits(md5s, 0, 24)
            store.append("clips", pa.table({"clip_id": ids, "source_md5": md5s}))
            store.commit_media([store.write_media(ids.to_pylist(), [b"x"] * count)])
            parts = [parts_of(n, rows) for n in numbers.to_pylist()]
            store.append("sources", pa.table({
                "uri": uris, "source_id": pc.binary_join_element_wise("id-", md5s, "") if rows else uris, "md5": md5s,
                "state": pa.array(["ok"] * count), "bytes": np.full(count, 5_000_000),
                "num_clips": np.ones(count, np.int32),
                "spans": pa.array([json.dumps(some) if some else None for some in parts], pa.string()),
                "cutting_fingerprint": pa.array([with_spans(CUTTING, [Span(*p[:2]) for p in some]) for some in parts]),
                "ingested_at": pa.array([datetime.now(UTC)] * count, pa.timestamp("us", tz="UTC")),
            }))  # fmt: skip
        manifest.write_table(manifest_of(pa.array(np.arange(sources, sources + NEW)), rows))


def manifest_of(numbers: pa.Array, rows: int) -> pa.Table:
    """Rows of the manifest for some files; those of one file are apart."""
    if not rows:
        return pa.table({"uri": uris_of(numbers)})
    uris, md5s, tables = uris_of(numbers), md5s_of(numbers), []
    for row in range(rows):
        starts, ends, captions = zip(*(parts_of(n, rows)[row] for n in numbers.to_pylist()), strict=True)
        tables.append(pa.table({
            "url": uris, "source_id": pc.binary_join_element_wise("id-", md5s, ""),
            "license": pa.array(["CC-BY-4.0"] * len(uris)), "start": starts, "end": ends,
            "caption": [caption for (caption,) in captions],
        }))  # fmt: skip
    return pa.concat_tables(tables)


def parts_of(number: int, rows: int) -> list[tuple[float, float, list[str]]]:
    """Return the parts of a file, in order."""
    starts = [number % 600 + 10.5 * n for n in range(rows)]
    return [(s, s + 8.25, [f"{CAPTION} {number}, and then {s} seconds on into the film"]) for s in starts]


def uris_of(numbers: pa.Array) -> pa.Array:
    """Names of files as a crawl has them, in no order."""
    return pc.binary_join_element_wise("s3://footage/crawl-2026/", md5s_of(pc.add(numbers, 7)), ".mp4", "")


def md5s_of(numbers: pa.Array) -> pa.Array:
    return pa.array([hashlib.md5(b"%d" % n).hexdigest() for n in numbers.to_pylist()])


def resident() -> float:
    """MiB, at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    if "--part" in sys.argv:
        print(json.dumps(part(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), KINDS[sys.argv[5]])))
    else:
        main()
