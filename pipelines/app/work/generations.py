"""Generations of evaluations: models side by side by prompt, and one beside the training clips nearest to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import pyarrow as pa
from pydantic import Field

from reelwright.curation.store import Store, StoreError
from reelwright.curation.store.sql_text import identifier
from reelwright.errors import UserError
from reelwright.pipelines.app.about import column_facts, shown
from reelwright.pipelines.app.view import Name, Strict

MOST_PROMPTS, MOST_EVALUATIONS, MOST_LETTERS = 60, 500, 2_000
NEAREST = 8
SETTINGS = frozenset({"width", "height", "fps", "num_frames", "seed", "sample", "wall_s"})
"""Columns of numbers that are no measures."""


class OfEvaluation(Strict):
    """A page of an evaluation's prompts. category: only these; failed: only prompts that a model failed on."""

    evaluation: Name
    category: Name = ""
    failed: bool = False
    offset: Annotated[int, Field(ge=0, le=2**31)] = 0
    limit: Annotated[int, Field(ge=1, le=MOST_PROMPTS)] = 12


class OneGeneration(Strict):
    """One generation, and how many clips near to it."""

    generation: Name
    count: Annotated[int, Field(ge=1, le=40)] = NEAREST


def evaluations(store: Store) -> list[dict[str, Any]]:
    """Return the store's evaluations with counts by model, the newest first."""
    rows = store.read("evaluations").sort_by([("at", "descending")]).slice(0, MOST_EVALUATIONS).to_pylist()
    counted = store.sql("SELECT evaluation_id, model, state, count(*) AS n FROM generations GROUP BY ALL").to_pylist()
    rated = store.sql(
        "SELECT evaluation_id, count(*) FILTER (is_human) AS people, count(*) FILTER (NOT is_human) AS judges "
        "FROM ratings GROUP BY 1"
    ).to_pylist()
    studies = store.sql("SELECT evaluation_id, count(*) AS n FROM studies GROUP BY 1").to_pylist()
    ratings = {row["evaluation_id"]: row for row in rated}
    planned = {row["evaluation_id"]: row["n"] for row in studies}
    found = []
    for row in rows:
        key = row["evaluation_id"]
        models = {name: {"ok": 0, "failed": 0} for name in row["models"] or ()}
        for one in counted:
            if one["evaluation_id"] == key and one["state"] in ("ok", "failed"):
                models.setdefault(one["model"], {"ok": 0, "failed": 0})[one["state"]] = one["n"]
        people = ratings.get(key, {"people": 0, "judges": 0})
        found.append({
            "evaluation": key, "name": shown(row["name"], 200), "suite": shown(row["suite"], 200),
            "at": shown(row["at"]), "prompts": row["prompts"], "wanted": row["wanted"],
            "models": {shown(name, 200): counts for name, counts in models.items()},
            "people": people["people"], "judges": people["judges"], "studies": planned.get(key, 0),
        })  # fmt: skip
    return found


def about_evaluation(store: Store, asked: OfEvaluation) -> dict[str, Any]:
    """Return an evaluation with a page of its prompts, each with a video per model and sample."""
    [row, *_] = store.sql(
        "SELECT * FROM evaluations WHERE evaluation_id = $e", params={"e": asked.evaluation}
    ).to_pylist() or [None]
    if row is None:
        raise UserError(f"there is no evaluation {asked.evaluation[:40]}")
    measures = measures_of(store)
    prompts, total = _prompts(store, asked)
    return {
        "evaluation": row["evaluation_id"], "name": shown(row["name"], 200), "suite": shown(row["suite"], 200),
        "models": [shown(name, 200) for name in row["models"] or ()], "settings": _text_object(row["settings"]),
        "measures": measures, "summary": _summary(store, asked.evaluation, [one["name"] for one in measures]),
        "categories": _categories(store, asked.evaluation), "prompts": prompts, "total": total, "offset": asked.offset,
    }  # fmt: skip


def about_generation(store: Store, asked: OneGeneration) -> dict[str, Any]:
    """Return one generation with its figures and origin, and the training clips nearest to it by `reel trace`."""
    from reelwright.pipelines.browse.trace.find import find_generation, trace

    row = find_generation(store, asked.generation)
    listed = {one["name"]: one for one in measures_of(store)}
    found: dict[str, Any] = {
        "row": {name: shown(value, MOST_LETTERS) for name, value in row.items() if name != "lineage"},
        "measures": [{**one, "value": shown(row[name])} for name, one in listed.items() if row.get(name) is not None],
        "ratings": _ratings(store, row["generation_id"]),
        "lineage": _text_object(row["lineage"]),
        "others": _others(store, row),
        "evaluation": row["evaluation_id"],
    }
    try:
        traced = trace(store, row["generation_id"], count=asked.count)
    except (UserError, StoreError) as error:  # such as an embedding model that is not on this machine
        return {**found, "trained_on": [], "near": [], "notes": [str(error)], "evaluation_name": ""}
    near = [("caption", "the captions nearest to the prompt", traced.by_caption),
            ("picture", f"by {traced.by_picture_of}", traced.by_picture)]  # fmt: skip
    return {
        **found,
        "evaluation_name": shown(traced.evaluation, 200),
        "trained_on": [
            {"name": shown(one.name, 200), "hash": one.content_hash[:80], "by": shown(one.by, 200), "note": one.note,
             "clips": one.snapshot.num_clips if one.snapshot else None} for one in traced.trained_on
        ],
        "near": [{"by": by, "note": note, "clips": [_clip(one) for one in some]} for by, note, some in near if some],
        "notes": traced.notes,
    }  # fmt: skip


def measures_of(store: Store) -> list[dict[str, str]]:
    """Return the measures of generations: columns of numbers that something computed, with unit and meaning."""
    found = []
    for field in store.schema("generations"):
        facts = column_facts(field)
        is_number = pa.types.is_floating(field.type) or pa.types.is_integer(field.type)
        if is_number and field.name not in SETTINGS and facts["computed_by"] not in ("", "evaluate"):
            found.append({name: facts[name] for name in ("name", "unit", "meaning")})
    return found


def _clip(clip: Any) -> dict[str, Any]:
    from reelwright.pipelines.browse.trace.words import loss

    return {
        "clip_id": clip.clip_id, "likeness": shown(clip.likeness), "caption": shown(clip.caption, MOST_LETTERS),
        "source": shown(clip.source, MOST_LETTERS), "start_s": shown(clip.start_s), "end_s": shown(clip.end_s),
        "weight": {name: shown(value) for name, value in clip.weight.items()},
        "scores": {name: shown(value, 200) for name, value in clip.scores.items()}, "loss": loss(clip),
    }  # fmt: skip


def _prompts(store: Store, asked: OfEvaluation) -> tuple[list[dict[str, Any]], int]:
    measures = [one["name"] for one in measures_of(store)]
    where = "evaluation_id = $e" + (" AND category = $c" if asked.category else "")
    having = "HAVING count(*) FILTER (state = 'failed') > 0" if asked.failed else ""
    params = {"e": asked.evaluation} | ({"c": asked.category} if asked.category else {})
    ids = store.sql(
        f"SELECT prompt_id, count(*) OVER () AS total FROM generations WHERE {where} GROUP BY prompt_id {having} "
        f"ORDER BY prompt_id LIMIT {asked.limit} OFFSET {asked.offset}",
        params=params,
    ).to_pylist()
    if not ids:
        return [], 0
    picked = ", ".join(map(identifier, measures))
    rows = store.sql(
        "SELECT generation_id, model, prompt_id, prompt, category, task, sample, seed, state, error, width, height"
        f"{', ' + picked if picked else ''} FROM generations WHERE evaluation_id = $e AND prompt_id IN "
        "(SELECT unnest($ids)) ORDER BY prompt_id, sample, model",
        params={"e": asked.evaluation, "ids": [one["prompt_id"] for one in ids]},
    ).to_pylist()
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        prompt = found.setdefault(row["prompt_id"], {
            "prompt_id": shown(row["prompt_id"], 200), "prompt": shown(row["prompt"] or "", MOST_LETTERS),
            "category": shown(row["category"] or "", 200), "videos": [],
        })  # fmt: skip
        kept = ("generation_id", "model", "sample", "seed", "state", "error", "width", "height")
        prompt["videos"].append({
            **{name: shown(row[name], 500) for name in kept},
            "measures": {name: shown(row[name]) for name in measures if row[name] is not None},
        })  # fmt: skip
    return list(found.values()), ids[0]["total"]


def _summary(store: Store, evaluation: str, measures: list[str]) -> list[dict[str, Any]]:
    """Return the means of measures and of scores by model: a first look, and no statistics."""
    picked = "".join(f", avg(CAST({identifier(name)} AS DOUBLE)) AS {identifier(name)}" for name in measures)
    rows = store.sql(
        "SELECT model, count(*) FILTER (state = 'ok') AS ok, count(*) FILTER (state = 'failed') AS failed"
        f"{picked} FROM generations WHERE evaluation_id = $e GROUP BY model ORDER BY model",
        params={"e": evaluation},
    ).to_pylist()
    rated = store.sql(
        "SELECT g.model, r.dimension, r.is_human, avg(r.value) AS value, count(*) AS n FROM ratings r "
        "JOIN generations g ON g.generation_id = r.generation_id WHERE r.evaluation_id = $e "
        "AND r.kind = 'mos' GROUP BY ALL ORDER BY ALL",
        params={"e": evaluation},
    ).to_pylist()
    scores: dict[str, dict[str, Any]] = {}
    for one in rated:
        who = "people" if one["is_human"] else "judge"
        scores.setdefault(one["model"], {})[f"{one['dimension']}, {who}"] = shown(one["value"])
    return [
        {"model": shown(row["model"], 200), "ok": row["ok"], "failed": row["failed"],
         "measures": {name: shown(row[name]) for name in measures if row[name] is not None},
         "scores": scores.get(row["model"], {})} for row in rows
    ]  # fmt: skip


def _categories(store: Store, evaluation: str) -> list[str]:
    query = "SELECT DISTINCT category FROM generations WHERE evaluation_id = $e AND category IS NOT NULL ORDER BY 1"
    return [shown(name, 200) for name in store.sql(query, params={"e": evaluation})["category"].to_pylist()[:500]]


def _ratings(store: Store, generation: str) -> list[dict[str, Any]]:
    rows = store.sql(
        'SELECT kind, dimension, value, rater, is_human, generation_id, other_id, "at" FROM ratings '
        'WHERE generation_id = $g OR other_id = $g ORDER BY is_human DESC, dimension, rater, "at" LIMIT 200',
        params={"g": generation},
    ).to_pylist()
    return [{name: shown(value, 200) for name, value in row.items()} for row in rows]


def _others(store: Store, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the generations of the same prompt and seed by other models."""
    rows = store.sql(
        "SELECT generation_id, model, state, error FROM generations WHERE evaluation_id = $e AND prompt_id = $p "
        "AND seed IS NOT DISTINCT FROM $s AND generation_id <> $g ORDER BY model LIMIT 20",
        params={"e": row["evaluation_id"], "p": row["prompt_id"], "s": row["seed"], "g": row["generation_id"]},
    ).to_pylist()
    return [{name: shown(value, 500) for name, value in one.items()} for one in rows]


def _text_object(text: str | None) -> str:
    """Return JSON for a person to read."""
    try:
        return str(shown(json.dumps(json.loads(text or "{}"), indent=2, ensure_ascii=False)))
    except (ValueError, RecursionError):
        return str(shown(text or ""))
