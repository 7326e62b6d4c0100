"""How the store grows: time and memory of what a run and a person do to it, at a million clips and at ten.

    python -m benchmarks.store_scale [CLIPS …] [--folder FOLDER] [--only PART …]    # 1_000_000; an hour for 10_000_000

Rows are synthetic: ids, sizes, five annotators' columns, captions of some 40 letters, vectors of 16 numbers, and 8
bytes of media per clip. Each part runs in a process of its own and prints `name value` lines: seconds of wall and CPU,
and MiB of resident memory at most, of which `mib_idle` is Python with its libraries.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.scale import ANNOTATED, QUERIES, timed
from reelwright.annotate import Annotator, in_profile, load_all
from reelwright.curation.store import Store
from reelwright.curation.store.schema import field
from reelwright.pipelines.annotate.batches import batches_of
from reelwright.pipelines.annotate.load import prepare_columns
from reelwright.pipelines.annotate.staleness import Staleness

DIM = 16
BATCH = 100_000
MERGED = 262_144
WORDS = np.array(["dog", "beach", "city", "night", "kitchen", "onions", "mountain", "snow", "robot", "castle"])
SNAPSHOT = 1_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=int, nargs="*", default=[1_000_000])
    parser.add_argument("--folder", help="for the store; default: temporary")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="parts; default: all, in order")
    args = parser.parse_args()
    for clips in args.clips:
        with tempfile.TemporaryDirectory(dir=args.folder, prefix="reel-store-") as temporary:
            folder = Path(args.folder or temporary) / str(clips)
            for part in args.only or PARTS:
                command = [sys.executable, "-m", "benchmarks.store_scale", "--part", part, str(folder), str(clips)]
                said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                for key, value in json.loads(said.splitlines()[-1]).items():
                    print(f"store_scale.{clips}.{part}.{key} {value:.4g}", flush=True)


def append(store: Store, clips: int) -> Iterator[tuple[str, float]]:
    """Every row, and what the first and the last hundred thousand take."""
    store.ensure_columns("clips", ANNOTATED)
    rng = np.random.default_rng(0)
    seconds = []
    for start in range(0, clips, BATCH):
        rows = synthetic(rng, start, min(BATCH, clips - start))
        seconds.append(timed(lambda r=rows: store.append("clips", r))[1])  # type: ignore[misc]
    yield "append_s", sum(seconds)
    yield "append_first_s", float(np.mean(seconds[1:6]))
    yield "append_last_s", float(np.mean(seconds[-5:]))


def media(store: Store, clips: int) -> Iterator[tuple[str, float]]:
    """Clip bytes of every row, by the ids that are there."""
    seconds = []
    for batch in store.scan("clips", ["clip_id"], batch_rows=BATCH):
        ids = batch.column(0).to_pylist()
        seconds.append(timed(lambda i=ids: store.commit_media([store.write_media(i, [b"12345678"] * len(i))]))[1])  # type: ignore[misc]
    yield "commit_s", sum(seconds)
    yield "commit_first_s", float(np.mean(seconds[1:6]))
    yield "commit_last_s", float(np.mean(seconds[-5:]))
    store.append("sources", [{"source_id": "s", "md5": "s", "uri": "/footage/s.mp4", "state": "ok"}])


def merge(store: Store, clips: int) -> Iterator[tuple[str, float]]:
    """A column of one annotator into every row, in the table's order, as annotators of sets commit it."""
    score = field("blur_score", pa.float32(), "sharpness", computed_by="blur")
    yield from _merged(store, score, lambda n: pa.array(np.arange(n), pa.float32()))


def vectors(store: Store, clips: int) -> Iterator[tuple[str, float]]:
    """A column of vectors into every row."""
    kind = pa.list_(pa.float32(), DIM)
    rng = np.random.default_rng(1)
    column = field("caption_embedding", kind, "vector", computed_by="caption_embedding")
    yield from _merged(
        store,
        column,
        lambda n: pa.FixedSizeListArray.from_arrays(rng.normal(size=n * DIM).astype(np.float32), type=kind),
    )


def _merged(store: Store, column: pa.Field, make: Callable[[int], pa.Array]) -> Iterator[tuple[str, float]]:
    store.ensure_columns("clips", [column])
    schema = pa.schema([pa.field("clip_id", pa.string()), column])
    seconds = []
    version = store.dataset("clips").version
    for batch in store.scan("clips", ["clip_id"], version=version, batch_rows=MERGED):
        rows = pa.Table.from_arrays([batch.column(0), make(batch.num_rows)], schema=schema)
        seconds.append(timed(lambda r=rows: store.merge("clips", r, "clip_id"))[1] / batch.num_rows)  # type: ignore[misc]
    yield "s_per_million", float(np.mean(seconds)) * 1e6
    yield "first_s_per_million", seconds[0] * 1e6
    yield "last_s_per_million", seconds[-1] * 1e6


def query(store: Store, clips: int) -> Iterator[tuple[str, float]]:
    """Five conditions, and a word in a caption."""
    for name, text in QUERIES.items():
        yield f"{name}_s", min(timed(lambda t=text: store.sql(t))[1] for _ in range(3))  # type: ignore[misc]
    text = "SELECT clip_id FROM clips WHERE caption ILIKE '%castle%' AND caption ILIKE '%snow%' LIMIT 20"
    yield "text_first_20_s", min(timed(lambda: store.sql(text))[1] for _ in range(3))
    count = "SELECT count(*) FROM clips WHERE caption ILIKE '%castle snow%'"
    yield "text_count_s", min(timed(lambda: store.sql(count))[1] for _ in range(3))


def describe(store: Store, clips: int) -> Iterator[tuple[str, float]]:
    yield "describe_s", timed(lambda: store.describe("clips"))[1]
    yield "tables_s", timed(store.tables)[1]


def stale(store: Store, clips: int) -> Iterator[tuple[str, float]]:
    """What annotators of the default profile have to do, all of it; and the first batch of it."""
    annotators = {a.name: a for a in load_all(in_profile("cpu")) if isinstance(a, Annotator)}
    prepare_columns(store, annotators)
    staleness = Staleness(store, annotators)
    yield "annotators", len(annotators)
    yield "counted_s", timed(lambda: staleness.counts)[1]
    batches = batches_of(store, staleness, annotators, clips=16, frame_bytes=1 << 30)
    yield "first_batch_s", timed(lambda: next(batches))[1]


def snapshot(store: Store, clips: int) -> Iterator[tuple[str, float]]:
    sql = "SELECT clip_id FROM clips WHERE aesthetic_score > 3"
    yield "create_s", timed(lambda: store.snapshots.create("bench", sql, limit=min(SNAPSHOT, clips // 2), seed=1))[1]
    yield "rows_s", timed(lambda: store.snapshots.rows("bench"))[1]


def search(store: Store, clips: int) -> Iterator[tuple[str, float]]:
    rng = np.random.default_rng(2)
    ask = lambda: store.nearest("clips", "caption_embedding", rng.normal(size=DIM), 10)  # noqa: E731
    yield "every_row_s", min(timed(ask)[1] for _ in range(3))
    yield "index_s", timed(lambda: store.index_vectors("clips", "caption_embedding"))[1]
    yield "indexed_s", min(timed(ask)[1] for _ in range(5))


def compact(store: Store, clips: int) -> Iterator[tuple[str, float]]:
    yield "compact_s", timed(store.compact)[1]
    yield "again_s", timed(store.compact)[1]


def cleanup(store: Store, clips: int) -> Iterator[tuple[str, float]]:
    freed, seconds = timed(lambda: store.delete_old_versions(timedelta(0)))
    yield "cleanup_s", seconds
    yield "freed_mib", freed / 2**20


def orphans(store: Store, clips: int) -> Iterator[tuple[str, float]]:
    yield "orphans_s", timed(store.orphans)[1]


PARTS: dict[str, Callable[[Store, int], Iterator[tuple[str, float]]]] = {
    part.__name__: part
    for part in (append, media, merge, vectors, query, describe, orphans, stale, snapshot, search, compact, cleanup)
}


def synthetic(rng: np.random.Generator, start: int, count: int) -> pa.Table:
    """Rows of clips of one source."""
    words = WORDS[rng.integers(0, len(WORDS), (count, 6))]
    columns: dict[str, Any] = {
        "clip_id": ids(rng, count), "source_md5": pa.array(["s"] * count),
        "shot_index": pa.array(np.arange(start, start + count), pa.int32()),
        "width": pa.array(rng.choice([640, 1280, 1920], count), pa.int32()),
        "height": pa.array(rng.choice([360, 720, 1080], count), pa.int32()),
        "fps": rng.choice([24.0, 25.0, 30.0], count), "num_frames": rng.integers(24, 600, count),
        "duration_s": rng.uniform(1, 20, count),
        "motion_score": pa.array(rng.uniform(0, 1, count), pa.float32()),
        "aesthetic_score": pa.array(rng.normal(5, 1, count), pa.float32()),
        "text_coverage": pa.array(rng.uniform(0, 1, count), pa.float32()),
        "camera_motion": pa.array(rng.choice(["static", "pan_left", "pan_right", "zoom_in"], count)),
        "caption": [" ".join(row) for row in words.tolist()],
        "aesthetic_fingerprint": ["aesthetic-1"] * count,
    }  # fmt: skip
    return pa.table(columns)


def ids(rng: np.random.Generator, count: int) -> pa.StringArray:
    """Return ids of 24 random hex digits, as clips have."""
    offsets = np.arange(0, 24 * count + 1, 24, dtype=np.int32)
    return pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(rng.bytes(12 * count).hex().encode()))


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _part(name: str, folder: Path, clips: int) -> dict[str, float]:
    store = Store.open(folder, create=name == "append")
    idle, wall, cpu = peak_mib(), time.monotonic(), time.process_time()
    found = dict(PARTS[name](store, clips))
    return found | {
        "wall_s": time.monotonic() - wall, "cpu_s": time.process_time() - cpu, "mib": peak_mib(), "mib_idle": idle
    }  # fmt: skip


if __name__ == "__main__":
    if "--part" in sys.argv:
        print(json.dumps(_part(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))))
    else:
        main()
