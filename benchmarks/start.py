"""What a run takes until its first task: listing inputs, the history of those that are done, leftovers of a killed run.

    python -m benchmarks.start [SOURCES …]        # 100_000 1_000_000; 10_000_000 needs 8 GB of disk

A store of so many sources, each with a shot and a clip, is filled with synthetic rows (`fill`). A Parquet manifest
names them all and NEW more, at an object store's addresses, which are not asked. Then processes of their own list the
manifest (`list`), read the history (`history`) and look for leftovers (`leftovers`), as a run does: `cold`, without an
index of the sources, which it makes, and `warm`, after a run has finished (`finish`, its last step). Prints
`name value` lines: seconds of wall and CPU of each, and MiB of resident memory, the largest so far, beyond what
importing takes.
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

from reelwright.curation.ingest.resolve import list_inputs
from reelwright.curation.records.history import History
from reelwright.curation.store import Store, known_shelf
from reelwright.curation.store.leftovers import note_finished

PARTS = ("fill", "cold", "finish", "warm")
SIZES = (100_000, 1_000_000)
NEW = 1_000
BATCH = 1_000_000
CUTTING = "0123456789abcdef"


def main() -> None:
    for sources in [int(a) for a in sys.argv[1:]] or SIZES:
        with tempfile.TemporaryDirectory(prefix="reel-start-") as folder:
            for part in PARTS:
                command = [sys.executable, "-m", "benchmarks.start", "--part", part, folder, str(sources)]
                said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                for key, value in json.loads(said.splitlines()[-1]).items():
                    print(f"start.{sources}.{key} {value:.2f}", flush=True)


def part(what: str, folder: Path, sources: int) -> dict[str, float]:
    if what == "fill":
        clock = time.monotonic()
        fill(folder, sources)
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


def fill(folder: Path, sources: int) -> None:
    store = Store.open(folder / "store", create=True)
    names = []
    for start in range(0, sources, BATCH):
        numbers = pa.array(np.arange(start, min(sources, start + BATCH)))
        uris, md5s = uris_of(numbers), md5s_of(numbers)
        names.append(uris)
        count = len(numbers)
        store.append("shots", pa.table({"source_md5": md5s, "shot_index": np.zeros(count, np.int32)}))
        ids = pc.utf8_slice_codeunits(md5s, 0, 24)
        store.append("clips", pa.table({"clip_id": ids, "source_md5": md5s}))
        store.commit_media([store.write_media(ids.to_pylist(), [b"x"] * count)])
        store.append("sources", pa.table({
            "uri": uris, "source_id": uris, "md5": md5s, "state": pa.array(["ok"] * count),
            "bytes": np.full(count, 5_000_000), "num_clips": np.ones(count, np.int32),
            "cutting_fingerprint": pa.array([CUTTING] * count),
            "ingested_at": pa.array([datetime.now(UTC)] * count, pa.timestamp("us", tz="UTC")),
        }))  # fmt: skip
    names.append(uris_of(pa.array(np.arange(sources, sources + NEW))))
    pq.write_table(pa.table({"uri": pa.chunked_array(names)}), folder / "inputs.parquet")


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
        print(json.dumps(part(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))))
    else:
        main()
