"""Search by vector: the index against reading every row, at 100,000 clips, in one run.

    python -m benchmarks.search [ROWS]

Vectors are synthetic, 384 numbers wide: subjects of clips with 24 directions of variation each, as captions have, and
("spread") points without any structure, the worst that an index can be given.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from reelwright.curation.store import Store

DIM, QUERIES, K = 384, 40, 10


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    print(f"{rows:,} vectors of {DIM}, {QUERIES} queries, {K} nearest each")
    for name, make in {"subjects": subjects, "spread": spread}.items():
        with tempfile.TemporaryDirectory() as folder:
            measure(name, make(rows, np.random.default_rng(0)), Path(folder))


def measure(name: str, vectors: np.ndarray, folder: Path) -> None:
    store = Store.open(folder / "store", create=True)
    ids = [f"{i:08d}" for i in range(len(vectors))]
    kind = pa.list_(pa.float32(), DIM)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIM).cast(kind)
    store.append("clips", pa.table({"clip_id": ids}))
    store.merge("clips", pa.table({"clip_id": ids, "vector": flat}), on="clip_id")
    rng = np.random.default_rng(1)
    queries = vectors[rng.integers(0, len(vectors), QUERIES)]
    queries = unit(queries + 0.2 * unit(rng.normal(size=queries.shape)))
    search(store, queries)  # files are in memory from here on
    exact, plain = search(store, queries)
    truth = [set(np.argsort(-(vectors @ q))[:K].tolist()) for q in queries]
    began = time.perf_counter()
    made = store.index_vectors("clips", "vector")
    built = time.perf_counter() - began
    search(store, queries)
    found, indexed = search(store, queries)
    print(
        f"{name:9} every row {1e3 * plain:6.1f} ms a query, recall@{K} {recall(exact, truth):.3f}\n"
        f"{'':9} index     {1e3 * indexed:6.1f} ms a query, recall@{K} {recall(found, truth):.3f}: "
        f"{plain / indexed:.1f} times as fast, {f'built in {built:.1f} s' if made else 'not made for so few rows'}"
    )


def search(store: Store, queries: np.ndarray) -> tuple[list[set[int]], float]:
    """Rows found for each query, and seconds per query."""
    began = time.perf_counter()
    found = [store.nearest("clips", "vector", q, K)["clip_id"].to_pylist() for q in queries]
    return [{int(i) for i in one} for one in found], (time.perf_counter() - began) / len(queries)


def recall(found: list[set[int]], truth: list[set[int]]) -> float:
    return float(np.mean([len(a & b) / K for a, b in zip(found, truth, strict=True)]))


def subjects(rows: int, rng: np.random.Generator) -> np.ndarray:
    count = max(1, round((rows / 2) ** 0.5))
    centers = unit(rng.normal(size=(count, DIM)))
    which = rng.integers(0, count, rows)
    found = np.empty((rows, DIM), np.float32)
    for i in range(count):
        mine = np.flatnonzero(which == i)
        directions = rng.normal(size=(24, DIM)) / DIM**0.5
        found[mine] = centers[i] + rng.normal(size=(len(mine), 24)) / 24**0.5 @ directions
    return unit(found + 0.1 * rng.normal(size=(rows, DIM)).astype(np.float32) / DIM**0.5)


def spread(rows: int, rng: np.random.Generator) -> np.ndarray:
    return unit(rng.normal(size=(rows, DIM)))


def unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32)


if __name__ == "__main__":
    main()
