"""Vectors of captions, as annotators of whole sets are given them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa

from reelwright.annotate.contract import Need, Stored

NEEDS: tuple[Need, ...] = (Stored("caption_embedding"), Stored("caption_embedding_model", optional=True))


def vectors_of(clips: pa.Table) -> tuple[np.ndarray, np.ndarray, str]:
    """Return (rows int64 [M], unit vectors float32 [M, D], model) of the clips whose vectors can be compared.

    They are the vectors of the model that made most, in order of clip_id.

    clips: `clip_id` and the columns of NEEDS. Clips of other models wait until their vectors are computed again.
    """
    origins = [one or "" for one in clips["caption_embedding_model"].to_pylist()]
    model = min(Counter(origins).items(), key=lambda item: (-item[1], item[0]))[0] if origins else ""
    vectors = clips["caption_embedding"]
    usable = vectors.is_valid().to_numpy() & np.array([one == model for one in origins], bool)
    rows = np.flatnonzero(usable)
    rows = rows[np.argsort(np.array(clips["clip_id"].to_pylist(), dtype=object)[rows], kind="stable")]
    flat = vectors.take(pa.array(rows)).combine_chunks()
    width = vectors.type.list_size if pa.types.is_fixed_size_list(vectors.type) else 0
    found = np.asarray(flat.flatten().to_numpy(zero_copy_only=False), np.float32).reshape(len(rows), width)
    return rows, found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12), model


def spread_out(values: np.ndarray, rows: np.ndarray, count: int, type: pa.DataType) -> pa.Array:
    """Return `values` of `rows` as a column of `count` clips, null elsewhere."""
    positions = np.full(count, -1)
    positions[rows] = np.arange(len(rows))
    return pa.array(values, type).take(pa.array(positions, mask=positions < 0))
