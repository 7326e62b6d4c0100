"""How close a generation comes to a clip that was trained on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np


def nearest_clips(
    generations: np.ndarray, clips: Iterable[tuple[Sequence[str], np.ndarray]]
) -> list[tuple[str | None, float]]:
    """Return the nearest clip of each generation, and their cosine; None and -1 where there is no clip.

    Args:
        generations: vectors, [N, D], of any length above 0.
        clips: parts of (clip ids, vectors [M, D]); only one part is held at a time.
    """
    ours = _unit(generations)
    best = np.full(len(ours), -1.0)
    at: list[str | None] = [None] * len(ours)
    for ids, vectors in clips:
        if not len(ids):
            continue
        cosine = ours @ _unit(vectors).T
        place = cosine.argmax(1)
        found = cosine[np.arange(len(ours)), place]
        for i in np.flatnonzero((found > best) | np.array([name is None for name in at])):
            best[i], at[i] = found[i], ids[place[i]]
    return list(zip(at, best.tolist(), strict=True))


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
