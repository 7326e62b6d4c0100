"""The training clips nearest to one generation, by prompt and by picture, with all that the store knows of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from reelwright.curation.media.errors import MediaError
from reelwright.curation.media.frames import Frames, read
from reelwright.curation.store import Store, StoreError
from reelwright.curation.store.sql_text import identifier
from reelwright.evaluation.neighbours import nearest, pictures_vector
from reelwright.pipelines.browse.balance.rows import embeddings
from reelwright.pipelines.browse.search import CAPTION, VISUAL, caption_vectors
from reelwright.pipelines.browse.trace.training_sets import TrainedOn, trained_on

LOOKED_AT = 200
"""Clips whose pictures are compared where there are no visual embeddings: those nearest in caption."""
COMPARED = Frames(count=3, height=72, color="rgb")
SCORES = (
    "aesthetic_score", "aesthetic_standin", "blur_score", "motion_score", "text_coverage", "watermark_score",
    "brightness", "camera_motion", "cluster_name", "density", "near_duplicate_count",
)  # fmt: skip
"""Columns of annotators that are shown, as far as the clips have them."""
FACTS = {"evaluation_id", "width", "height", "fps", "num_frames", "wall_s", "seed", "sample", "generation_id"}


@dataclass(frozen=True)
class Clip:
    """A training clip.

    Attributes:
        likeness: cosine to the generation, by the list that it stands in.
        weight: in each snapshot that has it.
        scores: annotator's column -> value.
        losses: band -> (relative loss, draws) of the generation's own run, or of the newest run that saw it.
        loss_run: that run's name; empty where none kept its losses.
    """

    clip_id: str
    likeness: float
    caption: str
    source: str
    start_s: float
    end_s: float
    weight: Mapping[str, float]
    scores: Mapping[str, Any]
    losses: Mapping[str, tuple[float, int]]
    loss_run: str


@dataclass(frozen=True)
class Traced:
    """One generation and the clips nearest to it.

    Attributes:
        row: of generations.
        figures: measures and mean ratings by name.
        by_picture_of: the vectors that pictures are compared by; empty where they cannot be.
        notes: what could not be looked at.
    """

    row: Mapping[str, Any]
    evaluation: str
    figures: Mapping[str, float]
    trained_on: list[TrainedOn]
    by_caption: list[Clip]
    by_picture: list[Clip]
    by_picture_of: str
    video: bytes
    notes: list[str] = field(default_factory=list)


def trace(store: Store, wanted: str, *, count: int = 8, model: str = "") -> Traced:
    """Find the training clips nearest to a generation.

    Args:
        store: of generations, snapshots and clips.
        wanted: generation_id, or the beginning of one.
        count: clips by caption, and as many by picture.
        model: folder of the model that embedded captions, if it has moved.

    Raises:
        StoreError: there is no such generation, or there are several.
    """
    row = find_generation(store, wanted)
    sets = trained_on(store, json.loads(row["lineage"] or "{}"))
    usable = [one.snapshot.name for one in sets if one.snapshot]
    notes = [f"{one.title}: {one.note}" for one in sets if one.note]
    if not usable:
        notes.append("no snapshot of its training is known here, so all clips of the store are looked at")
    video = b"".join(mp4 for _, mp4 in store.read_generated([row["generation_id"]])) if row["state"] == "ok" else b""
    near = _by_caption(store, row, usable, max(count, LOOKED_AT), model, notes)
    pictures, by = _by_picture(store, row, usable, video, [name for name, _ in near], count, notes)
    facts = _facts(store, [name for name, _ in near[:count]] + [name for name, _ in pictures], usable, row)
    return Traced(
        row, _evaluation_name(store, row), _figures(store, row), sets,
        [_clip(facts[name], likeness) for name, likeness in near[:count]],
        [_clip(facts[name], likeness) for name, likeness in pictures],
        by, video, notes,
    )  # fmt: skip


def find_generation(store: Store, wanted: str) -> dict[str, Any]:
    """Return the row of the generation with this id, or with an id that begins so. Raises StoreError."""
    columns = [f.name for f in store.schema("generations") if not pa.types.is_fixed_size_list(f.type)]
    listed = ", ".join(map(identifier, columns))
    found = store.sql(
        f"SELECT {listed} FROM generations WHERE starts_with(generation_id, $p) ORDER BY generation_id LIMIT 5",
        params={"p": wanted.strip()},
    ).to_pylist()
    exact = [row for row in found if row["generation_id"] == wanted.strip()]
    if wanted.strip() and (exact or len(found) == 1):
        return (exact or found)[0]
    see = 'See: reel sql "select generation_id, model, prompt from generations"'
    if wanted.strip() and found:
        raise StoreError(f"{wanted!r} begins the ids of several generations: "
                         f"{', '.join(row['generation_id'] for row in found)}; give more of it.")  # fmt: skip
    raise StoreError(f"no generation's id begins with {wanted!r}. {see}")


# --- nearest ---------------------------------------------------------------------------------------------------------


def _by_caption(
    store: Store, row: Mapping[str, Any], snapshots: Sequence[str], count: int, model: str, notes: list[str]
) -> list[tuple[str, float]]:
    origin = _model_of(store, CAPTION)
    if not origin or not row["prompt"]:
        notes.append(f"no clip has a {CAPTION}; reel annotate --only {CAPTION}" if not origin else "it has no prompt")
        return []
    vector = caption_vectors([row["prompt"]], origin, model)[0]
    return nearest(vector, _vectors(store, CAPTION, origin, snapshots), count)


def _by_picture(
    store: Store, row: Mapping[str, Any], snapshots: Sequence[str], video: bytes, near: Sequence[str], count: int,
    notes: list[str],
) -> tuple[list[tuple[str, float]], str]:  # fmt: skip
    """Return (the nearest clips, what they were compared by)."""
    own = _own_vector(store, row)
    origin = _model_of(store, VISUAL)
    if own is not None and origin == own[1]:
        return nearest(own[0], _vectors(store, VISUAL, origin, snapshots), count), VISUAL
    if not video:
        notes.append("it failed, so there is no picture to compare")
        return [], ""
    ids = near or _some_clips(store, snapshots)
    if not ids:
        return [], ""
    notes.append(
        f"clips and generations share no {VISUAL}, so pictures are compared at 16 x 9 px, of the {len(ids):,} clips "
        "nearest in caption: where colours lie, not what is seen"
    )
    mine = _small(video)
    if mine is None:
        notes.append("its video cannot be decoded")
        return [], ""
    return nearest(mine, _small_vectors(store, snapshots, ids, len(mine)), count), "pictures of 16 x 9 px"


def _own_vector(store: Store, row: Mapping[str, Any]) -> tuple[np.ndarray, str] | None:
    if VISUAL not in store.schema("generations").names:
        return None
    wanted = f"generation_id = '{row['generation_id']}' AND {VISUAL} IS NOT NULL"
    found = store.read("generations", [VISUAL, f"{VISUAL}_model"], wanted).to_pylist()
    return (np.array(found[0][VISUAL]), found[0][f"{VISUAL}_model"]) if found else None


def _vectors(
    store: Store, column: str, origin: str, snapshots: Sequence[str]
) -> Iterator[tuple[list[str], np.ndarray]]:
    """Yield (clip ids, unit vectors) that this model made: of the snapshots as pinned, or of the whole store."""
    for table in _tables(store, ["clip_id", column, f"{column}_model"], snapshots):
        vectors, has = embeddings(table.column(column))
        ids, models = (table.column(name).to_pylist() for name in ("clip_id", f"{column}_model"))
        own = [(name, maker) for name, maker, ok in zip(ids, models, has, strict=True) if ok]
        keep = [i for i, (_, maker) in enumerate(own) if maker == origin]
        yield [own[i][0] for i in keep], vectors[keep]


def _tables(store: Store, columns: list[str], snapshots: Sequence[str]) -> Iterator[pa.Table]:
    for name in snapshots:
        yield from store.snapshots.clips(name, columns)
    if not snapshots:
        picked = ", ".join(map(identifier, columns))
        for batch in store.sql_stream(f"SELECT {picked} FROM clips"):
            yield pa.Table.from_batches([batch])


def _some_clips(store: Store, snapshots: Sequence[str]) -> list[str]:
    """Return the first clips by id, where none is near in caption."""
    ids = {name for table in _tables(store, ["clip_id"], snapshots) for name in table.column("clip_id").to_pylist()}
    return sorted(ids)[:LOOKED_AT]


def _small_vectors(
    store: Store, snapshots: Sequence[str], ids: Sequence[str], width: int
) -> Iterator[tuple[list[str], np.ndarray]]:
    for name, mp4 in media_of(store, snapshots, ids):
        vector = _small(mp4)
        if vector is not None and len(vector) == width:
            yield [name], vector[None]


def _small(mp4: bytes) -> np.ndarray | None:
    try:
        _, (frames,) = read(mp4, [COMPARED])
    except MediaError:
        return None
    return pictures_vector(frames[np.linspace(0, len(frames) - 1, COMPARED.count or 3).round().astype(int)])


def media_of(store: Store, snapshots: Sequence[str], ids: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yield (clip_id, mp4), as pinned where a snapshot has the clip; a clip without media is left out."""
    left = list(dict.fromkeys(ids))
    versions = [store.snapshots.show(name).media_version for name in snapshots]
    for version in [*versions, None]:
        there = store.with_media(left, version=version) if left else set()
        yield from store.read_media([name for name in left if name in there], version=version)
        left = [name for name in left if name not in there]


def _model_of(store: Store, column: str) -> str:
    """Return the model that made the column for most clips; empty where no clip has it."""
    if f"{column}_model" not in store.schema("clips").names:
        return ""
    query = f"SELECT {column}_model AS m FROM clips WHERE m IS NOT NULL GROUP BY m ORDER BY count(*) DESC, m LIMIT 1"
    return next(iter(store.sql(query)["m"].to_pylist()), "")


# --- facts -----------------------------------------------------------------------------------------------------------


def _facts(
    store: Store, ids: Sequence[str], snapshots: Sequence[str], row: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Return all that is known of clips, by id."""
    wanted = list(dict.fromkeys(ids))
    if not wanted:
        return {}
    known = store.schema("clips").names
    scores = [name for name in SCORES if name in known]
    texts = [name for name in ("caption", "composed_caption") if name in known]
    picked = ", ".join(f"c.{identifier(name)}" for name in [*scores, *texts, *_embedded_of(known)])
    rows = store.sql(
        f"SELECT c.clip_id, c.uri, c.source_md5, c.start_s, c.end_s, s.caption AS source_caption"
        f"{', ' + picked if picked else ''} FROM clips_full c LEFT JOIN (SELECT md5, min(caption) AS caption "
        "FROM sources WHERE state = 'ok' GROUP BY md5) s ON s.md5 = c.source_md5 "
        "WHERE c.clip_id IN (SELECT unnest($ids))",
        params={"ids": wanted},
    ).to_pylist()
    found = {one["clip_id"]: one for one in rows}
    weights = {name: _weights(store, name, wanted) for name in snapshots}
    losses = _losses(store, wanted, str(json.loads(row["lineage"] or "{}").get("run", "")))
    for name in wanted:
        facts = found.setdefault(name, {"clip_id": name})
        facts["scores"] = {score: facts[score] for score in scores if facts.get(score) is not None}
        facts["weights"] = {snapshot: own[name] for snapshot, own in weights.items() if name in own}
        facts["losses"], facts["loss_run"] = losses.get(name, ({}, ""))
    return found


def _embedded_of(known: Sequence[str]) -> list[str]:
    return [name for name in (f"{CAPTION}_of",) if name in known]


def _weights(store: Store, snapshot: str, ids: Sequence[str]) -> dict[str, float]:
    rows = store.snapshots.rows(snapshot)
    some = set(ids)
    pairs = zip(rows["clip_id"].to_pylist(), rows["weight"].to_pylist(), strict=True)
    return {name: weight for name, weight in pairs if name in some}


def _losses(store: Store, ids: Sequence[str], run: str) -> dict[str, tuple[dict[str, tuple[float, int]], str]]:
    """Clip -> (band -> (relative, draws), run): of this run where it kept them, else of the newest that did."""
    rows = store.sql(
        "SELECT clip_id, run, band, relative, draws FROM clip_loss_means WHERE relative IS NOT NULL AND clip_id IN "
        '(SELECT unnest($ids)) ORDER BY run = $run, "at", band',
        params={"ids": list(ids), "run": run},
    ).to_pylist()
    found: dict[str, tuple[dict[str, tuple[float, int]], str]] = {}
    for one in rows:  # the last run of a clip wins
        bands, name = found.get(one["clip_id"], ({}, ""))
        bands = bands if name == one["run"] else {}
        bands[one["band"]] = (one["relative"], one["draws"])
        found[one["clip_id"]] = (bands, one["run"])
    return found


def _clip(facts: Mapping[str, Any], likeness: float) -> Clip:
    given = [facts.get(f"{CAPTION}_of") or "", "caption", "source_caption", "composed_caption"]
    caption = next((facts[name] for name in given if name and facts.get(name)), "")
    return Clip(
        facts["clip_id"], likeness, str(caption), facts.get("uri") or f"source {facts.get('source_md5')}",
        facts.get("start_s") or 0.0, facts.get("end_s") or 0.0, facts["weights"], facts["scores"], facts["losses"],
        facts["loss_run"],
    )  # fmt: skip


def _figures(store: Store, row: Mapping[str, Any]) -> dict[str, float]:
    measured = {
        name: float(value)
        for name, value in row.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and name not in FACTS
    }
    rated = store.sql(
        "SELECT dimension, who, avg(value) AS value FROM (SELECT dimension, value, CASE WHEN is_human THEN 'people' "
        "ELSE rater END AS who FROM ratings WHERE kind = 'mos' AND generation_id = $g AND coalesce(repeat, 0) = 0) "
        "GROUP BY 1, 2 ORDER BY 2, 1",
        params={"g": row["generation_id"]},
    ).to_pylist()
    return measured | {f"{one['dimension']} by {one['who']}": one["value"] for one in rated}


def _evaluation_name(store: Store, row: Mapping[str, Any]) -> str:
    found = store.sql("SELECT name FROM evaluations WHERE evaluation_id = $e", params={"e": row["evaluation_id"]})
    return next(iter(found["name"].to_pylist()), row["evaluation_id"] or "")
