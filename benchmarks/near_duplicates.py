"""Grouping near-duplicate clips against comparing every clip with every other, on one core.

    python -m benchmarks.near_duplicates [--clips 20000] [--sample 1000]
    python -m benchmarks.near_duplicates --cells 100000 1000000   # by embedding in cells, and by all pairs

Half of the clips are copies of others with a few bits turned (hashes) or a little noise (embeddings). Brute force
compares `--sample` of the clips with all of them, and is counted up to all pairs. With --cells half of the clips are
copies of a cosine between 0.955 and 1, where 0.96 is asked for, and lie off their clip towards another one, so as the
clips themselves lie: harder than noise.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from reelwright.annotate.sets.duplicates import vectors
from reelwright.annotate.sets.duplicates.groups import group
from reelwright.annotate.sets.duplicates.hashes import distance, padded
from reelwright.annotate.sets.near_duplicates import NearDuplicates
from reelwright.curation.vectors.scratch import Scratch

DIM, RANK = 768, 40  # of the embeddings; how many directions most of their differences have, as CLIP's have few

MOST_PAIRS = 200_000  # clips that are also grouped by all pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=20_000)
    parser.add_argument("--sample", type=int, default=1_000)
    parser.add_argument("--cells", type=int, nargs="+", default=[])
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    for clips in arguments.cells:
        in_cells(clips, rng)
    if arguments.cells:
        return
    for annotator, made, brute in (
        (NearDuplicates("hash"), _hashes, _brute_hashes),
        (NearDuplicates("embedding"), _embeddings, _brute_embeddings),
    ):
        column, values = made(arguments.clips, rng)
        ids = [f"{k:08}" for k in range(arguments.clips)]
        clips = pa.table({"clip_id": ids, annotator.needs.column: column})
        ours, (found, _) = _timed(partial(annotator, clips, None))
        sample = min(arguments.sample, arguments.clips)
        theirs, _ = _timed(partial(brute, values, sample))
        theirs *= arguments.clips / sample / 2  # each pair once
        grouped = int((found["near_duplicate_count"].to_numpy() > 1).sum())
        print(
            f"{annotator.by:9} {arguments.clips} clips, {grouped} in groups: {ours:.1f} s of CPU; "
            f"every pair: {theirs:.1f} s; ratio {theirs / ours:.1f}"
        )


def in_cells(count: int, rng: np.random.Generator) -> None:
    found, groups = _mixed(count, rng), []
    for all_pairs in (0, count)[: 1 if count > MOST_PAIRS else 2]:
        vectors.ALL_PAIRS = all_pairs
        with Scratch() as scratch:
            seconds, first = _timed(partial(_grouped, found.copy(), scratch))
        groups.append(first)
        how = "all pairs" if all_pairs else "in cells"
        print(f"{count} clips, {how}: {seconds:.1f} s of CPU, {len(np.unique(first))} groups", flush=True)
    if len(groups) == 2:
        print(f"clips in another group in cells: {np.mean(groups[0] != groups[1]):.6f}", flush=True)


def _grouped(found: np.ndarray, scratch: Scratch) -> np.ndarray:
    like = vectors.LikeVectors(found, 0.96, scratch)
    return group(len(found), like, like.block)


def _mixed(count: int, rng: np.random.Generator) -> np.ndarray:
    """Embeddings, half of them copies with a part of another clip's mixed in."""
    half = count // 2
    found = rng.standard_normal((half, RANK), np.float32) * np.linspace(2, 0.3, RANK, dtype=np.float32)
    found = found @ rng.standard_normal((RANK, DIM), np.float32) / np.float32(RANK**0.5)
    found += 0.3 * rng.standard_normal(found.shape, np.float32) + rng.standard_normal(DIM, np.float32)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    of, other = (found[rng.integers(half, size=count - half)] for _ in range(2))
    other -= np.sum(other * of, axis=1, keepdims=True) * of
    other /= np.maximum(np.linalg.norm(other, axis=1, keepdims=True), 1e-9)
    cosine = rng.uniform(0.955, 1, (len(of), 1)).astype(np.float32)
    return np.concatenate([found, cosine * of + np.sqrt(1 - cosine**2) * other])[rng.permutation(count)]


def _hashes(count: int, rng: np.random.Generator) -> tuple[pa.Array, np.ndarray]:
    found = rng.integers(1, 2**63, size=(count, 4), dtype=np.uint64)
    found[count // 2 :] = found[: count - count // 2] ^ (np.uint64(1) << rng.integers(0, 64, (1, 4), dtype=np.uint64))
    order = rng.permutation(count)
    found = found[order]
    return pa.array(list(found.view(np.int64)), pa.list_(pa.int64())), padded(found.ravel(), np.full(count, 4))


def _embeddings(count: int, rng: np.random.Generator) -> tuple[pa.Array, np.ndarray]:
    found = rng.normal(size=(count, RANK)) @ rng.normal(size=(RANK, DIM)) / RANK**0.5
    found += 0.3 * rng.normal(size=(count, DIM)) + rng.normal(size=DIM)
    found[count // 2 :] = found[: count - count // 2] + 0.1 * rng.normal(size=(count - count // 2, DIM))
    found = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)[rng.permutation(count)]
    return pa.FixedSizeListArray.from_arrays(pa.array(found.ravel()), DIM), found


def _brute_hashes(hashes: np.ndarray, sample: int) -> int:
    return sum(int((distance(np.broadcast_to(one, hashes.shape), hashes) <= 4).sum()) for one in hashes[:sample])


def _brute_embeddings(vectors: np.ndarray, sample: int) -> int:
    return sum(int((vectors[k : k + 256] @ vectors.T >= 0.96).sum()) for k in range(0, sample, 256))


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = call()
    return time.process_time() - start, result


if __name__ == "__main__":
    main()
