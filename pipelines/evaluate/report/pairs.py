"""Pairs of an evaluation's page: what people said of two videos of one prompt, failures as losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from reelwright.errors import UserError
from reelwright.evaluation.statistics.bootstrap import Interval, mean_interval
from reelwright.evaluation.statistics.pairs import Gsb, Strengths, davidson
from reelwright.pipelines.evaluate.report.rows import Rows, draws_of


@dataclass(frozen=True)
class Pairs:
    """What people said to pairs in one dimension. A video that failed has lost to one that was made.

    Args:
        dimension: its name.
        gsb: (model, other model) -> counts.
        intervals: of GSB, over prompts.
        strengths: Davidson's model, or why there is none.
        failed: pairs of which a video failed, or both (same).
        votes: that each of these counts as: the answers that a pair has in the mean.
        made: counts over pairs that were shown alone; empty where none failed.
    """

    dimension: str
    gsb: dict[tuple[str, str], Gsb]
    intervals: dict[tuple[str, str], Interval]
    strengths: Strengths | str
    failed: int = 0
    votes: int = 0
    made: dict[tuple[str, str], Gsb] = field(default_factory=dict)


def pairs(rows: Rows) -> list[Pairs]:
    """Return the pairs of each dimension."""
    said = rows.ask(
        "SELECT a.prompt_id, a.model, b.model AS other, r.dimension, r.value, count(*) AS number, "
        "list(a.generation_id || b.generation_id) AS items FROM ratings r "
        "JOIN shown a ON r.generation_id = a.generation_id JOIN shown b ON r.other_id = b.generation_id "
        "WHERE r.evaluation_id = $id AND r.kind = 'gsb' AND coalesce(r.repeat, 0) = 0 AND r.is_human GROUP BY ALL"
    ).to_pylist()
    if not said:
        return []
    lost = rows.ask(
        "SELECT a.prompt_id, a.model, b.model AS other, (b.state <> 'ok')::int - (a.state <> 'ok')::int AS value, "
        "count(*) AS number FROM shown a JOIN shown b ON a.prompt_id = b.prompt_id AND a.seed = b.seed "
        "AND a.model < b.model WHERE a.state <> 'ok' OR b.state <> 'ok' GROUP BY ALL"
    ).to_pylist()
    shown = set(
        rows.ask(
            "SELECT prompt_id FROM shown WHERE state = 'ok' GROUP BY prompt_id, seed HAVING count(DISTINCT model) > 1"
        )["prompt_id"].to_pylist()
    )
    names = sorted({row["dimension"] for row in said}, key=lambda d: (d != "overall", d))
    return [_pairs(rows, name, [row for row in said if row["dimension"] == name], lost, shown) for name in names]


def _pairs(
    rows: Rows, dimension: str, said: Sequence[Mapping[str, Any]], lost: Sequence[Mapping[str, Any]], shown: set[str]
) -> Pairs:
    """shown: prompts of which there are pairs; where prompts were drawn, only failures of prompts drawn count."""
    asked = {row["prompt_id"] for row in said}
    lost = [
        row for row in lost
        if (shown <= asked or row["prompt_id"] in asked) and row["model"] in rows.place and row["other"] in rows.place
    ]  # fmt: skip
    votes = round(sum(row["number"] for row in said) / len({item for row in said for item in row["items"]}))
    counted = [*said, *({**row, "number": votes * row["number"]} for row in lost)]
    prompts = {name: i for i, name in enumerate(sorted({row["prompt_id"] for row in counted}))}
    wins, ties = _counts(rows, counted, prompts)
    gsb, intervals = _gsb(rows.models, wins, ties)
    try:
        strengths: Strengths | str = davidson(rows.models, wins, ties, draws_of(len(prompts)))
    except UserError as error:
        strengths = str(error)
    made = _gsb(rows.models, *_counts(rows, said, prompts))[0] if lost else {}
    return Pairs(dimension, gsb, intervals, strengths, sum(row["number"] for row in lost), votes, made)


def _counts(rows: Rows, said: Sequence[Mapping[str, Any]], prompts: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Wins of the row's model and ties, each [prompts, models, models]."""
    size = (len(prompts), len(rows.models), len(rows.models))
    wins, ties = np.zeros(size), np.zeros(size)
    for row in said:
        p, i, j = prompts[row["prompt_id"]], rows.place.get(row["model"]), rows.place.get(row["other"])
        if i is None or j is None:
            continue
        if row["value"] == 0:
            ties[p, i, j] += row["number"]
            ties[p, j, i] += row["number"]
        else:
            better, worse = (i, j) if row["value"] > 0 else (j, i)
            wins[p, better, worse] += row["number"]
    return wins, ties


def _gsb(
    models: Sequence[str], wins: np.ndarray, ties: np.ndarray
) -> tuple[dict[tuple[str, str], Gsb], dict[tuple[str, str], Interval]]:
    gsb, intervals = {}, {}
    for i, j in combinations(range(len(models)), 2):
        good, same, bad = wins[:, i, j], ties[:, i, j], wins[:, j, i]
        pair = models[i], models[j]
        if (good + same + bad).any():
            gsb[pair] = Gsb(int(good.sum()), int(same.sum()), int(bad.sum()))
            intervals[pair] = mean_interval(good - bad, good + same + bad, draws_of(len(wins)))
    return gsb, intervals
