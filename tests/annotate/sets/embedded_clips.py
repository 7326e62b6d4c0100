"""Clips with vectors in blobs and captions to go with them, as annotators of whole sets are given them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

DIM = 24
SUBJECTS = (
    "dog beach waves", "city traffic night", "kitchen onions chef", "mountain snow peak", "robot castle cartoon"
)  # fmt: skip


def blobs(counts: Sequence[int], seed: int = 0, width: float = 0.3, offset: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(unit vectors float32 [N, DIM], which blob each is of), shuffled. offset: of the first blob's number."""
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(99).normal(size=(40, DIM)) / DIM**0.5
    which = rng.permutation(np.repeat(np.arange(len(counts)) + offset, counts))
    found = centers[which] + width * rng.normal(size=(len(which), DIM)) / DIM**0.5
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32), which


def clips_of(
    vectors: np.ndarray | Sequence, captions: Sequence[str | None] | None = None, *, model: Sequence[str] | str = "m",
    ids: Sequence[str] | None = None,
) -> pa.Table:  # fmt: skip
    count = len(vectors)
    return pa.table({
        "clip_id": pa.array(ids or [f"{i:06d}" for i in range(count)], pa.string()),
        "caption_embedding": pa.array(list(vectors), pa.list_(pa.float32(), DIM)),
        "caption_embedding_model": pa.array([model] * count if isinstance(model, str) else model, pa.string()),
        "caption": pa.array(captions if captions is not None else [None] * count, pa.string()),
        "source_caption": pa.nulls(count, pa.string()),
        "composed_caption": pa.nulls(count, pa.string()),
    })  # fmt: skip


def about(which: np.ndarray) -> list[str]:
    """A caption for each clip of a blob: its subject, among words that all share."""
    return [f"A wide shot of a {SUBJECTS[w % len(SUBJECTS)]} number {i % 3}." for i, w in enumerate(which)]
