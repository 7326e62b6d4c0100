"""The videos of an evaluation's page: prompts on which the models differ, and some of each category."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from typing import Any

from reelwright.curation.store import Store

PROMPTS = 12
MAX_BYTES = 64 << 20
"""Of all videos in a page."""


@dataclass
class Shown:
    """A prompt's row: its text, and by model the video as a data URI, or why there is none."""

    prompt: str
    category: str
    why: str
    videos: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)


def shown_clips(
    store: Store, evaluation: Mapping[str, Any], where: str | None = None, prompts: int = PROMPTS
) -> list[Shown]:
    """Return rows of videos, one per prompt: half where people's overall scores differ most, half through categories.

    Args:
        store: with the videos.
        evaluation: its row.
        where: a SQL condition on `generations`.
        prompts: rows at most; fewer where the videos are large.
    """
    condition = f" AND ({where}\n)" if where else ""
    query = (
        f"WITH shown AS (SELECT * FROM generations WHERE evaluation_id = $id{condition}), each AS ("
        "SELECT generation_id, avg(value) AS score FROM ratings WHERE evaluation_id = $id AND kind = 'mos' "
        "AND dimension = 'overall' AND is_human AND repeat = 0 GROUP BY 1) "
        "SELECT prompt_id, sample, any_value(category) AS category, max(score) - min(score) AS apart FROM shown "
        "LEFT JOIN each USING (generation_id) GROUP BY 1, 2 ORDER BY 1, 2"
    )
    params = {"id": evaluation["evaluation_id"]}
    rows = [row for row in store.sql(query, params=params).to_pylist() if not row["sample"]]
    chosen = _choose(rows, prompts)
    wanted = [row["prompt_id"] for row, _ in chosen]
    detail = (
        "WITH each AS (SELECT generation_id, avg(value) AS score FROM ratings WHERE evaluation_id = $id "
        "AND kind = 'mos' AND dimension = 'overall' AND is_human AND repeat = 0 GROUP BY 1) "
        "SELECT g.generation_id, prompt_id, model, prompt, category, state, error, score FROM generations g "
        "LEFT JOIN each USING (generation_id) "
        "WHERE evaluation_id = $id AND coalesce(sample, 0) = 0 AND list_contains($wanted, prompt_id)"
    )
    found = store.sql(detail, params=params | {"wanted": wanted}).to_pylist() if wanted else []
    return _with_videos(store, chosen, found, evaluation["models"])


def _choose(rows: Sequence[dict[str, Any]], prompts: int) -> list[tuple[dict[str, Any], str]]:
    """Return rows with why each is shown."""
    apart = sorted((row for row in rows if row["apart"]), key=lambda row: (-row["apart"], row["prompt_id"]))
    chosen = [(row, f"models {row['apart']:.1f} points apart") for row in apart[: prompts // 2]]
    taken = {row["prompt_id"] for row, _ in chosen}
    by_category: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["prompt_id"] not in taken:
            by_category.setdefault(row["category"] or "", []).append(row)
    for row in chain.from_iterable(zip_longest(*by_category.values())):
        if row is not None and len(chosen) < prompts:
            chosen.append((row, ""))
    return chosen


def _with_videos(
    store: Store, chosen: Sequence[tuple[dict[str, Any], str]], found: Sequence[dict[str, Any]], models: Sequence[str]
) -> list[Shown]:
    of = {(row["prompt_id"], row["model"]): row for row in found}
    shown: list[Shown] = []
    left = MAX_BYTES
    for row, why in chosen:
        mine = {model: of[row["prompt_id"], model] for model in models if (row["prompt_id"], model) in of}
        made = {one["generation_id"]: model for model, one in mine.items() if one["state"] == "ok"}
        videos = {made[name]: mp4 for name, mp4 in store.read_generated(made)}
        left -= sum(map(len, videos.values()))
        if left < 0 and shown:
            break
        first = next(iter(mine.values()))
        one = Shown(first["prompt"] or "", first["category"] or "", why)
        one.videos = {model: "data:video/mp4;base64," + base64.b64encode(v).decode() for model, v in videos.items()}
        one.missing = {model: mine[model]["error"] or "failed" if model in mine else "not made yet"
                       for model in models if model not in videos}  # fmt: skip
        one.scores = {model: row["score"] for model, row in mine.items() if row["score"] is not None}
        shown.append(one)
    return shown
