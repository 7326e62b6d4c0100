"""The vectors nearest to one, found in parts: more clips than fit in memory at once."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

import numpy as np


def nearest(
    vector: np.ndarray, clips: Iterable[tuple[Sequence[str], np.ndarray]], count: int
) -> list[tuple[str, float]]:
    """Return (clip id, cosine) of the nearest clips, the nearest first; of equal ones, the smaller id.

    Args:
        vector: [D], of any length above 0.
        clips: parts of (clip ids, vectors [M, D]); a clip may come in several parts, and is returned once.
        count: clips to return.
    """
    own = _unit(vector[None])[0]
    best: dict[str, float] = {}
    for ids, vectors in clips:
        if not len(ids):
            continue
        cosine = _unit(vectors) @ own
        some = np.argsort(-cosine, kind="stable")[: 2 * count]
        best |= {ids[i]: float(cosine[i]) for i in some}
        best = dict(heapq.nsmallest(count, best.items(), key=lambda item: (-item[1], item[0])))
    return sorted(best.items(), key=lambda item: (-item[1], item[0]))


def pictures_vector(frames: np.ndarray) -> np.ndarray:
    """Return how a video looks from afar: its frames at 16 x 9 px, as offsets from mid grey, [T · 9 · 16 · 3].

    A stand-in where clips have no visual embedding: it tells where colours lie, not what is seen.

    Args:
        frames: uint8 [T, H, W, 3] RGB, of the same T for all videos that are compared.
    """
    import cv2

    small = [cv2.resize(frame, (16, 9), interpolation=cv2.INTER_AREA) for frame in frames]
    flat = np.stack(small).astype(np.float64).reshape(-1) / 255
    return np.asarray(flat - 0.5)


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
