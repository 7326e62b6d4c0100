"""Annotators of sets as they grow: memory and time of a worker, and how far approximate results lie from exact ones.

    python -m benchmarks.sets_scale [CLIPS …] [--dim 32] [--only NAME …]     # 100_000 1_000_000; 10_000_000 takes hours
    python -m benchmarks.sets_scale --exact [CLIPS] [--dim 32]               # approximate against exact, 100,000 clips

Clips are synthetic: subjects with their own vectors of `--dim` numbers (`caption_embedding`, `visual_embedding`),
hashes of four frames of which a tenth are copies with bits turned, and captions of a few words. They lie in a store;
each annotator reads them there, in a process of its own, as a run's worker does, and its pieces are dropped, not merged
(`store_scale` measures merges). What it leaves to tasks, one more process does, one task after the other, as a worker
of Ray does: `tasks_cpu_s`, `tasks_mib`. Prints `name value` lines: seconds of wall and CPU, MiB of resident memory at
most, of which `mib_idle` is Python with its libraries. Mapped files count as resident, although the system may drop
them.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.store_scale import BATCH, WORDS, ids, peak_mib
from reelwright.annotate import SetAnnotator, load
from reelwright.annotate.keys import Keys
from reelwright.annotate.sets.clustering import kmeans
from reelwright.curation.store import Store
from reelwright.curation.store.schema import field
from reelwright.curation.vectors.crowding import Neighbourhood, unit
from reelwright.curation.vectors.neighbours import SAME
from reelwright.pipelines.annotate.set_tasks import SharedWork, compute_stretch
from reelwright.pipelines.annotate.sets import _compute, _End, set_staleness
from reelwright.pipelines.runtime.meter import Meter

RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "staleness": ("clusters", {}), "clusters": ("clusters", {}), "density": ("density", {}),
    "cluster_names": ("cluster_names", {}), "caption_map": ("caption_map", {}),
    "near_duplicates": ("near_duplicates", {}), "near_duplicates_embedding": ("near_duplicates", {"by": "embedding"}),
}  # fmt: skip
SUBJECTS, FRAMES, COPIES = 1_000, 4, 0.1
COMPARED = 4_000  # clips whose density is also computed among all
MADE_BY = {"caption_embedding": "caption_embedding", "caption_embedding_model": "caption_embedding",
           "visual_embedding": "visual_embedding", "frame_hash": "frame_hash", "cluster_id": "clusters",
           "composed_caption": "composed_caption"}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=int, nargs="*", help="default: 100000 1000000; with --exact 100000")
    parser.add_argument("--dim", type=int, default=32)
    parser.add_argument("--only", nargs="+", choices=RUNS, help="default: all")
    parser.add_argument("--exact", action="store_true")
    args = parser.parse_args()
    if args.exact:
        for clips in args.clips or [100_000]:
            for key, value in exact(clips, args.dim):
                print(f"sets_scale.exact.{clips}.{args.dim}.{key} {value:.4g}", flush=True)
        return
    for clips in args.clips or [100_000, 1_000_000]:
        with tempfile.TemporaryDirectory(prefix="reel-sets-") as folder:
            for what in ("fill", *(args.only or RUNS)):
                command = [
                    sys.executable,
                    "-m",
                    "benchmarks.sets_scale",
                    "--part",
                    what,
                    folder,
                    str(clips),
                    str(args.dim),
                ]
                said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                for key, value in json.loads(said.splitlines()[-1]).items():
                    print(f"sets_scale.{clips}.{what}.{key} {value:.4g}", flush=True)


def fill(store: Store, clips: int, dim: int) -> int:
    """Put synthetic clips into a store, and return the bytes of a clip's values."""
    kinds = {"caption_embedding": pa.list_(pa.float32(), dim), "visual_embedding": pa.list_(pa.float32(), dim),
             "caption_embedding_model": pa.string(), "frame_hash": pa.list_(pa.int64()), "cluster_id": pa.int32(),
             "composed_caption": pa.string()}  # fmt: skip
    made = sorted(set(MADE_BY.values()))
    store.ensure_columns("clips", [
        *(field(name, kind, name, computed_by=MADE_BY[name]) for name, kind in kinds.items()),
        *(field(f"{name}_fingerprint", pa.string(), "fingerprint", computed_by=name) for name in made),
    ])  # fmt: skip
    rng = np.random.default_rng(0)
    for start in range(0, clips, BATCH):
        rows = synthetic(rng, min(BATCH, clips - start), dim)
        for name in made:
            rows = rows.append_column(f"{name}_fingerprint", pa.array([f"{name}-1"] * len(rows)))
        store.append("clips", rows)
    return rows.nbytes // len(rows)


def synthetic(rng: np.random.Generator, count: int, dim: int) -> pa.Table:
    """Rows of clips: a subject each, which decides the vectors and half of the words."""
    middles = np.random.default_rng(7).normal(size=(SUBJECTS, dim))
    subject = rng.integers(0, SUBJECTS, count)
    vectors = [np.asarray(middles[subject] + 0.5 * rng.normal(size=(count, dim)), np.float32) for _ in range(2)]
    hashes = rng.integers(1, 2**63, size=(count, FRAMES), dtype=np.uint64)
    copies = rng.random(count) < COPIES
    turned = np.uint64(1) << rng.integers(0, 63, size=(count, FRAMES), dtype=np.uint64)
    hashes[copies] = (hashes[rng.permutation(count)] ^ turned)[copies]
    words = WORDS[np.column_stack([subject % 10, subject // 10 % 10, rng.integers(0, 10, (count, 2))])]
    kind = pa.list_(pa.float32(), dim)
    return pa.table({
        "clip_id": ids(rng, count),
        "caption_embedding": pa.FixedSizeListArray.from_arrays(vectors[0].ravel(), type=kind),
        "visual_embedding": pa.FixedSizeListArray.from_arrays(vectors[1].ravel(), type=kind),
        "caption_embedding_model": pa.array(["model"] * count),
        "frame_hash": pa.ListArray.from_arrays(
            pa.array(np.arange(0, FRAMES * count + 1, FRAMES, dtype=np.int32)), pa.array(hashes.ravel().view(np.int64))
        ),
        "cluster_id": pa.array(subject % 256, pa.int32()),
        "composed_caption": pa.array([" ".join(row) for row in words.tolist()]),
    })  # fmt: skip


def part(what: str, folder: Path, clips: int, dim: int) -> dict[str, float]:
    store = Store.open(folder, create=what == "fill")
    idle, wall, cpu = peak_mib(), time.monotonic(), time.process_time()
    found: dict[str, float] = {}
    if what == "fill":
        found["bytes_a_clip"] = fill(store, clips, dim)
    else:
        name, params = RUNS[what]
        annotator = load(name, params)
        assert isinstance(annotator, SetAnnotator)
        if what == "staleness":
            assert set_staleness(store, annotator).stale == clips
        else:
            found |= _consumed(store, name, params)
    return found | {
        "wall_s": time.monotonic() - wall, "cpu_s": time.process_time() - cpu, "mib": peak_mib(), "mib_idle": idle
    }  # fmt: skip


def _consumed(store: Store, name: str, params: dict[str, Any]) -> dict[str, float]:
    """Run an annotator as a worker does, and count the clips that it has results for."""
    clips, took = 0, {}
    for piece in _compute(store.uri, store.dataset("clips").version, name, params, Keys({})):
        if isinstance(piece, pa.Table):
            clips += piece.num_rows
        elif isinstance(piece, _End):
            if piece.problem:
                raise piece.problem
            if piece.left:
                with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                    took = process.submit(_by_tasks, piece.left).result()
    return {"clips": clips} | took


def _by_tasks(work: SharedWork) -> dict[str, float]:
    """Do all stretches, and return what they took here, the libraries' start included."""
    meter, clips, largest, stretches = Meter(), 0, 0, work.stretches()
    for fragments in stretches:
        _, rows = compute_stretch(work, fragments)
        assert rows is not None
        clips, largest = clips + len(rows), max(largest, rows.nbytes)
    return {"clips": clips, "tasks": len(stretches), "tasks_cpu_s": time.process_time(),
            "tasks_mib": meter.take().peak_bytes / 2**20, "piece_mib": largest / 2**20}  # fmt: skip


def exact(clips: int, dim: int) -> Iterator[tuple[str, float]]:
    """How far results that look at a part of the clips lie from those that look at all."""
    rows = synthetic(np.random.default_rng(0), clips, dim)
    vectors = unit(rows["caption_embedding"].combine_chunks().flatten().to_numpy().reshape(clips, dim))
    uniform = unit(np.random.default_rng(1).normal(size=(clips, dim)).astype(np.float32))
    for name, some in (("subjects", vectors), ("uniform", uniform)):
        for key, value in densities(rows["clip_id"].to_pylist(), some):
            yield f"density_{name}_{key}", value
    k = kmeans.rule_of_thumb(clips, 256)
    whole, again = kmeans.fit(vectors, k, 0), kmeans.fit(vectors, k, 1)
    part = kmeans.fit(vectors[: clips // 5], k, 0)
    for name, other in (("fifth", part), ("other_seed", again)):
        yield f"clusters_{name}_spread_over_exact", spread(other, vectors) / spread(whole, vectors)
        yield f"clusters_{name}_clips_elsewhere", elsewhere(whole.labels(vectors), other.labels(vectors))


def densities(ids: list[str], vectors: np.ndarray) -> Iterator[tuple[str, float]]:
    """Density by cells over density among all, of some clips, both with mean 1 over these."""
    rule, cpu = Neighbourhood(), time.process_time()
    parts = [slice(start, start + BATCH) for start in range(0, len(ids), BATCH)]
    found = rule.density(((ids[one], vectors[one]) for one in parts), len(ids))
    yield "cpu_s", time.process_time() - cpu
    rows = np.sort(np.random.default_rng(0).permutation(len(ids))[:COMPARED])
    some, every = found[rows], np.concatenate([among_all(vectors, one, rule.k) for one in np.array_split(rows, 40)])
    ratio = some / some.mean() / (every / every.mean())
    for share in (0.01, 0.25, 0.5, 0.75, 0.99):
        yield f"over_exact_q{share}", float(np.quantile(ratio, share))
    yield "rank_correlation", float(np.corrcoef(*(np.argsort(np.argsort(d)) for d in (some, every)))[0, 1])


def among_all(vectors: np.ndarray, rows: np.ndarray, k: int) -> np.ndarray:
    """Crowding of some rows by the formula."""
    alike = vectors[rows] @ vectors.T
    alike[np.arange(len(rows)), rows] = -np.inf
    nearest = np.partition(alike, -k, axis=1)[:, -k:]
    same = np.count_nonzero(alike > 1 - SAME, axis=1)
    return np.maximum(1, same / k) / np.maximum(SAME, 1 - nearest.mean(axis=1))


def spread(fit: kmeans.Fit, vectors: np.ndarray) -> float:
    """Mean squared distance of vectors to their centroid."""
    return float(((vectors - fit.centroids[fit.labels(vectors)]) ** 2).sum(axis=1).mean())


def elsewhere(a: np.ndarray, b: np.ndarray) -> float:
    """Share of clips in another cluster, with the clusters of two fits matched as well as may be."""
    from scipy.optimize import linear_sum_assignment

    both = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(both, (a, b), 1)
    return 1 - float(both[linear_sum_assignment(-both)].sum()) / len(a)


if __name__ == "__main__":
    if "--part" in sys.argv:
        print(json.dumps(part(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))))
    else:
        main()
