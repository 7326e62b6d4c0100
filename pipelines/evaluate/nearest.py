"""Measure `nearest`: the training clip that looks most like a generation, which tells memorised ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from reelwright.annotate.backends.identity import from_origin, same_model
from reelwright.curation.store import Store
from reelwright.curation.store.schema import field
from reelwright.evaluation.memorisation import nearest_clips
from reelwright.pipelines.browse.trace.training_sets import trained_on

if TYPE_CHECKING:
    from reelwright.pipelines.evaluate.counts import Measured

NAME, VERSION = "nearest", 1
VECTOR = "visual_embedding"


def is_nearest(name: str) -> bool:
    """Return whether a measure is this one, which needs the store's clips beside the video."""
    return name == NAME


def embedding_of(store: Store) -> tuple[dict[str, Any], str]:
    """Return parameters of the embedding that the store's clips have, or why there is none."""
    origin = _origin(store)
    if origin is None:
        why = f"{NAME} was left out: no clip of the store has a {VECTOR}; make it with: reel annotate --only {VECTOR}"
        return {}, why
    model, revision = from_origin(origin)
    return {"clip": {"model": model, "revision": revision}}, ""


def fill_nearest(store: Store, evaluation: str, found: Measured) -> None:
    """Fill the columns `nearest_clip` and `nearest_similarity` where they are stale."""
    origin = _origin(store)
    if origin is None or VECTOR not in store.schema("generations").names:
        return
    store.ensure_columns("generations", _fields())
    columns = ["generation_id", VECTOR, f"{VECTOR}_fingerprint", f"{VECTOR}_model", "lineage", f"{NAME}_fingerprint"]
    condition = f"evaluation_id = '{evaluation}' AND state = 'ok' AND {VECTOR} IS NOT NULL"
    every = store.read("generations", columns, condition).to_pylist()
    rows = [row for row in every if same_model(row[f"{VECTOR}_model"], origin)]
    known = _known(store)
    todo: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        trained = _snapshots(store, json.loads(row["lineage"] or "{}"), found.notes)
        said = json.dumps([NAME, VERSION, origin, row[f"{VECTOR}_fingerprint"], sorted(trained.items()), known])
        row["expected"] = hashlib.sha256(said.encode()).hexdigest()[:16]
        if row["expected"] == row[f"{NAME}_fingerprint"]:
            found.current[NAME] += 1
        else:
            todo.setdefault(tuple(sorted(trained)), []).append(row)
    for snapshots, some in todo.items():
        _fill(store, snapshots, origin, some)
        found.made[NAME] += len(some)


def _fill(store: Store, snapshots: Sequence[str], origin: str, rows: list[dict[str, Any]]) -> None:
    vectors = np.array([row[VECTOR] for row in rows], np.float32)
    nearest = nearest_clips(vectors, _clips(store, snapshots, origin))
    table = pa.table({
        "generation_id": [row["generation_id"] for row in rows],
        "nearest_clip": pa.array([clip for clip, _ in nearest], pa.string()),
        "nearest_similarity": pa.array([None if clip is None else s for clip, s in nearest], pa.float32()),
        f"{NAME}_fingerprint": [row["expected"] for row in rows],
    })  # fmt: skip
    store.merge("generations", table, on="generation_id")


def _clips(store: Store, snapshots: Sequence[str], origin: str) -> Iterator[tuple[list[str], np.ndarray]]:
    """Yield clips with a vector of this model: those of the snapshots, or all where none is known."""
    wanted = {name for one in snapshots for name in store.snapshots.rows(one).column("clip_id").to_pylist()}
    query = f"SELECT clip_id, {VECTOR} AS v FROM clips WHERE {VECTOR} IS NOT NULL AND {VECTOR}_model = ?"
    for batch in store.sql_stream(query, params=[origin]):
        ids = batch.column("clip_id").to_pylist()
        flat = batch.column("v").flatten().to_numpy(zero_copy_only=False).reshape(len(ids), -1)
        keep = [i for i, name in enumerate(ids) if not wanted or name in wanted]
        yield [ids[i] for i in keep], flat[keep]


def _snapshots(store: Store, lineage: dict[str, Any], notes: list[str]) -> dict[str, str]:
    """Return name -> hash of the snapshots of this store that the model, its parents and its LoRAs were trained on."""
    sets = trained_on(store, lineage)
    found = {one.snapshot.name: one.snapshot.content_hash for one in sets if one.snapshot}
    for one in sets:
        said = f"{NAME} does not look among the clips of {one.title}: {one.note}"
        if found and one.note and said not in notes:
            notes.append(said)
    return found


def _known(store: Store) -> str:
    """Return what tells the clips with a vector from others: their number, and a hash of their ids."""
    [row] = store.sql(
        f"SELECT count(*) AS n, bit_xor(hash(clip_id)) AS h FROM clips WHERE {VECTOR} IS NOT NULL"
    ).to_pylist()
    return f"{row['n']}-{row['h']}"


def _origin(store: Store) -> str | None:
    """Return the model that made most clips' vectors."""
    if f"{VECTOR}_model" not in store.schema("clips").names:
        return None
    rows = store.sql(
        f"SELECT {VECTOR}_model AS m FROM clips WHERE m IS NOT NULL GROUP BY m ORDER BY count(*) DESC, m LIMIT 1"
    )
    return rows.column(0)[0].as_py() if rows.num_rows else None


def _fields() -> list[pa.Field]:
    by = {"computed_by": NAME}
    return [
        field("nearest_clip", pa.string(), "the clip that the model was trained on and that looks most like it; of any "
              "clip of the store where that is not known", **by),
        field("nearest_similarity", pa.float32(), "cosine of the two visual embeddings; near 1: memorised", **by),
        field(f"{NAME}_fingerprint", pa.string(), "embedding and clips that it was found among", **by),
    ]  # fmt: skip
