"""Weights of a snapshot's clips by a balance, and the clips that weigh most, for a person to look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelwright.curation.store.clip_media import LOOKUP_IDS
from reelwright.curation.store.connection import Connection
from reelwright.curation.store.errors import unknown_name
from reelwright.curation.store.given_weights import GivenWeights
from reelwright.curation.store.sql_text import identifier, is_one_of, literal
from reelwright.curation.store.weighting import (
    VECTORS,
    VECTORS_OF,
    Balance,
    Weighed,
    effective_size,
    lacks,
    weigh,
    weigh_vectors,
)
from reelwright.curation.vectors.scratch import Scratch

EMBEDDED = "caption_embedding_of"  # column of clips: the column whose caption the embedding is of
CAPTIONS = ("caption", "source_caption", "composed_caption")


@dataclass(frozen=True)
class Heavy:
    """A clip that weighs much. caption: the text that its density is measured by; empty if it has none."""

    clip_id: str
    weight: float
    caption: str


@dataclass(frozen=True)
class WeightReview:
    """Facts by which a person judges weights. effective_size: Kish's; heaviest: the most heavy first."""

    clips: int
    effective_size: float
    heaviest: list[Heavy]


def balanced(
    con: Any, store: Connection, version: int, rows: pa.Table, balance: Balance
) -> tuple[pa.Table, dict[str, Any]]:
    """Return `rows` with weights by a balance, and the record of how they were made.

    Args:
        con: DuckDB over the pinned clips.
        store: to read vectors from.
        version: of the pinned clips.
        rows: (clip_id, weight, position), ordered by position.
        balance: the rule.

    Raises:
        StoreError: the store lacks what the rule needs.
    """
    schema = store.dataset("clips", version).schema
    if balance.column not in schema.names:
        raise lacks(balance)
    if balance.column == VECTORS:
        weighed = _by_vectors(store, version, schema, rows, balance)
    else:
        weighed = _by_column(con, schema, rows, balance)
    place = rows.schema.get_field_index("weight")
    return rows.set_column(place, "weight", pa.array(weighed.weights)), {
        "by": balance.by, "column": balance.column, "alpha": balance.alpha, "cap": balance.cap,
        "within": balance.within, **weighed.facts(),
    }  # fmt: skip


def given(con: Any, schema: pa.Schema, rows: pa.Table, weights: GivenWeights) -> tuple[pa.Table, dict[str, Any]]:
    """Return `rows` with the weights that a file gives, and the record of how they were made.

    Args:
        con: DuckDB over the pinned clips.
        schema: of the pinned clips.
        rows: (clip_id, weight, position), ordered by position.
        weights: per value of a column.

    Raises:
        StoreError: the clips lack the column, or another version made its values.
    """
    if weights.column not in schema.names:
        raise unknown_name(weights.column, "column of clips", schema.names, see="reel describe clips")
    weighed = weights.weigh(*_values(con, schema, rows, weights.column))
    place = rows.schema.get_field_index("weight")
    return rows.set_column(place, "weight", pa.array(weighed.weights)), {
        "by": "weights", "column": weights.column, "cap": weights.cap, "weights": dict(weights.weights),
        "others": weights.others, "why": dict(weights.why), **weighed.facts(),
    }  # fmt: skip


def review(store: Connection, name: str, clips_version: int, count: int) -> WeightReview | None:
    """Review the weights of a snapshot; None where all are equal.

    Args:
        store: the store.
        name: of the snapshot.
        clips_version: that it pins.
        count: heaviest clips to name.
    """
    rows = store.read("snapshot_rows", ["clip_id", "weight"], f"snapshot = {literal(name)}")
    weights = rows.column("weight").to_numpy()
    if not len(weights) or weights.min() == weights.max():
        return None
    ids = np.array(rows.column("clip_id").to_pylist(), dtype=object)
    first = np.lexsort((ids.astype(str), -weights))[:count]
    captions = _captions(store, clips_version, ids[first].tolist())
    heavy = [Heavy(ids[i], float(weights[i]), captions.get(ids[i], "")) for i in first]
    return WeightReview(len(weights), effective_size(weights), heavy)


def _by_column(con: Any, schema: pa.Schema, rows: pa.Table, balance: Balance) -> Weighed:
    return weigh(*_values(con, schema, rows, balance.column), balance)


def _values(con: Any, schema: pa.Schema, rows: pa.Table, column: str) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Return (each row's value of a column of clips, the fingerprint that it carries)."""
    mark = f"{(schema.field(column).metadata or {}).get(b'computed_by', b'').decode()}_fingerprint"
    made = f"c.{identifier(mark)}" if mark in schema.names else "NULL::VARCHAR"
    con.register("balanced", rows)
    found = con.sql(
        f"SELECT c.{identifier(column)} AS value, {made} AS made FROM balanced b JOIN clips c USING (clip_id) "
        "ORDER BY b.position"
    ).to_arrow_table()
    return found.column("value"), found.column("made")


def _by_vectors(store: Connection, version: int, schema: pa.Schema, rows: pa.Table, balance: Balance) -> Weighed:
    names = [VECTORS, *([VECTORS_OF] if VECTORS_OF in schema.names else [])]
    ids = rows.column("clip_id")
    made: list[pa.Array] = []
    with Scratch() as scratch:
        vectors = scratch.array((len(ids), schema.field(VECTORS).type.list_size), np.float32)
        for start in range(0, len(ids), LOOKUP_IDS):
            some = ids[start : start + LOOKUP_IDS].combine_chunks()
            clips = store.read("clips", ["clip_id", *names], is_one_of("clip_id", some.to_pylist()), version=version)
            clips = clips.take(pc.index_in(some, clips.column("clip_id").combine_chunks()))
            vectors[start : start + len(some)] = _numbers(clips.column(VECTORS))
            made += clips.column(VECTORS_OF).chunks if VECTORS_OF in names else [pa.nulls(len(some), pa.string())]
            scratch.let_go()
        return weigh_vectors(ids, vectors, pa.chunked_array(made, pa.string()), balance, scratch.let_go)


def _numbers(lists: pa.ChunkedArray) -> np.ndarray:
    """Return lists of one length as float32 [N, D], NaN for a null."""
    width = lists.type.list_size
    found = np.full((len(lists), width), np.nan, np.float32)
    flat = lists.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    found[lists.is_valid().to_numpy()] = flat.reshape(-1, width)
    return found


def _captions(store: Connection, version: int, ids: list[str]) -> dict[str, str]:
    """Text that each clip's embedding is of; where there is no embedding, the first caption that it has."""
    known = store.dataset("clips", version).schema.names
    names = [name for name in (EMBEDDED, *CAPTIONS) if name in known]
    rows = store.read("clips", ["clip_id", *names], is_one_of("clip_id", ids), version=version).to_pylist()
    return {row["clip_id"]: _caption(row) for row in rows}


def _caption(row: dict[str, Any]) -> str:
    texts = (row.get(name) for name in (row.get(EMBEDDED), *CAPTIONS) if name)
    return next((text for text in texts if isinstance(text, str) and text.strip()), "")
