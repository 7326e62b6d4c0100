"""Size: queries and snapshots over a store of a million clips, beside DuckDB over a Parquet file of the same rows; and
the memory of a worker on a 2-hour film (`memory.py`).

`python -m benchmarks.scale` prints `name value` lines. Seconds are the best of three; ratios are ours over the floor's.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.memory import memory_rows
from reelwright.curation.store import Store
from reelwright.curation.store.schema import field

CLIPS = 1_000_000
BATCH = 100_000
TINY, TINY_COMMITS = 40, 500  # clips of a commit, and commits, that the store ends with
CONDITIONS = (
    "aesthetic_score > 5 AND motion_score > 0.2 AND width >= 1280 AND duration_s < 12 AND camera_motion = 'pan_left'"
)
BY_SCORE = f"FROM clips WHERE {CONDITIONS} ORDER BY aesthetic_score DESC, clip_id LIMIT 1000"
QUERIES = {
    "filter5_ids": f"SELECT clip_id {BY_SCORE}",
    "filter5_all_columns": f"SELECT * {BY_SCORE}",
    "count_by_motion": "SELECT camera_motion, count(*), avg(aesthetic_score) FROM clips GROUP BY 1 ORDER BY 1",
}
SNAPSHOT_CLIPS = 100_000

ANNOTATED = [
    field("motion_score", pa.float32(), "optical flow", unit="px/frame", computed_by="motion"),
    field("aesthetic_score", pa.float32(), "1 to 10", computed_by="aesthetic"),
    field("text_coverage", pa.float32(), "share of the picture that is text", computed_by="text"),
    field("camera_motion", pa.string(), "how the camera moves", computed_by="tags"),
    field("caption", pa.string(), "what is to be seen", computed_by="caption"),
    field("aesthetic_fingerprint", pa.string(), "fingerprint", computed_by="aesthetic"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=CLIPS, help="rows of the store; 0 leaves the store out")
    parser.add_argument("--hours", type=float, default=2.0, help="length of the film; 0 leaves the film out")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = store_rows(Path(folder), args.clips) if args.clips else ()
        film = memory_rows(Path(folder), args.hours) if args.hours else ()
        for name, value in chain(store, film):
            print(name, f"{value:.6g}", flush=True)


def store_rows(folder: Path, clips: int = CLIPS) -> Iterator[tuple[str, float]]:
    """(name, value) of everything the store is timed for. folder: empty; some 1 GB is written for a million clips."""
    store, seconds = timed(lambda: build(folder / "store", clips, tiny_commits=TINY_COMMITS))
    yield "store.clips", clips
    yield "store.build_s", seconds
    yield "store.clip_files_before_merge", len(store.dataset("clips").get_fragments())
    yield "store.sql_filter5_all_columns_before_merge_s", best_of(3, lambda: store.sql(QUERIES["filter5_all_columns"]))
    yield "store.merge_small_files_s", timed(store.merge_small_files)[1]
    yield "store.clip_files", len(store.dataset("clips").get_fragments())
    floor = _floor(store, folder / "clips.parquet")
    for name, query in QUERIES.items():
        ours = best_of(3, lambda q=query: store.sql(q))  # type: ignore[misc]
        theirs = best_of(3, lambda q=query: floor(q))  # type: ignore[misc]
        yield f"store.sql_{name}_s", ours
        yield f"store.sql_{name}_over_duckdb_parquet", ours / theirs
    yield from _snapshot_rows(store, min(SNAPSHOT_CLIPS, clips))
    yield from _lookup_rows(store)
    yield "store.orphans_s", timed(store.orphans)[1]
    yield "store.merge_column_s", timed(lambda: _merge_all(store))[1]
    yield "store.compact_s", timed(store.compact)[1]
    yield "store.sql_after_compaction_s", best_of(3, lambda: store.sql(QUERIES["filter5_all_columns"]))


def build(path: Path, clips: int, batch: int = BATCH, *, tiny_commits: int = 0) -> Store:
    """A store of synthetic clips, each with 64 bytes of media, from one source in state ok for every 50; the last of
    them in so many commits of TINY clips."""
    store = Store.open(path, create=True)
    store.ensure_columns("clips", ANNOTATED)
    rng = np.random.default_rng(0)
    bulk = max(0, clips - TINY * tiny_commits)
    for start in range(0, bulk, batch):
        _commit(store, synthetic_clips(rng, start, min(batch, bulk - start)))
    if bulk < clips:
        _commit(store, synthetic_clips(rng, bulk, clips - bulk), rows_a_commit=TINY)
    return store


def _commit(store: Store, rows: pa.Table, rows_a_commit: int = BATCH) -> None:
    ids = rows.column("clip_id").to_pylist()
    store.commit_media([store.write_media(ids, [one.encode() * 2 for one in ids])])
    for start in range(0, rows.num_rows, rows_a_commit):
        store.append("clips", rows.slice(start, rows_a_commit))
    md5s = sorted(set(rows.column("source_md5").to_pylist()))
    store.append("sources", [{"source_id": m, "md5": m, "uri": f"/footage/{m}.mp4", "state": "ok"} for m in md5s])


def synthetic_clips(rng: np.random.Generator, start: int, count: int) -> pa.Table:
    """Rows of clips with their annotators' columns, ids and all made from numbers `start` on."""
    numbers = range(start, start + count)
    columns: dict[str, Any] = {
        "clip_id": [hashlib.md5(str(i).encode()).hexdigest() for i in numbers],
        "source_md5": [hashlib.md5(f"s{i // 50}".encode()).hexdigest() for i in numbers],
        "shot_index": pa.array([i % 50 for i in numbers], pa.int32()),
        "width": pa.array(rng.choice([640, 1280, 1920], count), pa.int32()),
        "height": pa.array(rng.choice([360, 720, 1080], count), pa.int32()),
        "fps": rng.choice([24.0, 25.0, 30.0], count),
        "num_frames": pa.array(rng.integers(24, 600, count), pa.int64()),
        "duration_s": rng.uniform(1, 20, count),
        "motion_score": pa.array(rng.uniform(0, 1, count), pa.float32()),
        "aesthetic_score": pa.array(rng.normal(5, 1, count), pa.float32()),
        "text_coverage": pa.array(rng.uniform(0, 1, count), pa.float32()),
        "camera_motion": pa.array(rng.choice(["static", "pan_left", "pan_right", "zoom_in"], count)),
        "caption": [f"A caption of clip {i}: {'somebody walks along a street and ' * (i % 8)}waits." for i in numbers],
        "aesthetic_fingerprint": ["aesthetic-1"] * count,
    }
    return pa.table(columns)


def best_of(times: int, call: Callable[[], Any]) -> float:
    """Seconds of the fastest call."""
    return min(timed(call)[1] for _ in range(times))


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """(result, seconds)"""
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start


def _floor(store: Store, path: Path) -> Callable[[str], pa.Table]:
    """DuckDB over the same rows in a Parquet file."""
    import duckdb
    import pyarrow.parquet as pq

    pq.write_table(store.read("clips"), path, compression="zstd")
    con = duckdb.connect(":memory:")
    con.execute(f"CREATE VIEW clips AS SELECT * FROM '{path}'")
    return lambda query: con.sql(query).to_arrow_table()


def _snapshot_rows(store: Store, clips: int) -> Iterator[tuple[str, float]]:
    query = "SELECT clip_id FROM clips WHERE aesthetic_score > 4"
    snapshot, seconds = timed(lambda: store.snapshots.create("bench", query, limit=clips, seed=1))
    yield "store.snapshot_clips", snapshot.num_clips
    yield "store.snapshot_create_s", seconds
    check, seconds = timed(lambda: store.snapshots.verify("bench"))
    assert check.is_sound, check.problems
    yield "store.snapshot_verify_s", seconds


def _lookup_rows(store: Store) -> Iterator[tuple[str, float]]:
    ids = store.snapshots.rows("bench").column("clip_id").to_pylist()
    yield "store.read_media_1_clip_s", best_of(5, lambda: list(store.read_media(ids[:1])))
    some = ids[:10_000]
    yield "store.read_media_clips_per_s", len(some) / best_of(3, lambda: list(store.read_media(some)))


def _merge_all(store: Store) -> None:
    """One annotator's column for every clip, as `reel annotate` would commit it."""
    ids = store.read("clips", ["clip_id"]).column("clip_id")
    score = field("blur_score", pa.float32(), "sharpness", computed_by="blur")
    values = pa.array(np.arange(len(ids)), pa.float32())
    rows = pa.Table.from_arrays([ids, values], schema=pa.schema([pa.field("clip_id", pa.string()), score]))
    store.merge("clips", rows, "clip_id")


if __name__ == "__main__":
    main()
