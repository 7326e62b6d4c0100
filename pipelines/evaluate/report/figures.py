"""The figures of an evaluation's page: means with intervals over prompts, pairs, categories, raters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reelwright.curation.store import Store
from reelwright.evaluation.statistics.bootstrap import Interval
from reelwright.pipelines.evaluate.report.means import Averages, ByCategory, Means, joined
from reelwright.pipelines.evaluate.report.pairs import Pairs, pairs
from reelwright.pipelines.evaluate.report.raters import Rater, agreement
from reelwright.pipelines.evaluate.report.rows import Rows


@dataclass
class Figures:
    """All figures.

    Args:
        models: names, in the evaluation's order.
        wanted: videos that the evaluation asks for; None where a condition chooses some of those that are there.
        counts: model -> of its rows.
        means: of people, judges and measures.
        joined: judge -> dimension -> model -> people and judge, 2 : 1.
        categories: means by category.
        pairs: by dimension.
        alphas: (kind, dimension) -> Krippendorff's alpha.
        raters: people and judges.
        tuned_on: judge -> videos of prompts whose scores by people it was tuned on.
    """

    models: tuple[str, ...]
    wanted: int | None = None
    counts: dict[str, dict[str, Any]] = field(default_factory=dict)
    means: list[Means] = field(default_factory=list)
    joined: dict[str, dict[str, dict[str, Interval]]] = field(default_factory=dict)
    categories: list[ByCategory] = field(default_factory=list)
    pairs: list[Pairs] = field(default_factory=list)
    alphas: dict[tuple[str, str], float] = field(default_factory=dict)
    raters: list[Rater] = field(default_factory=list)
    tuned_on: dict[str, int] = field(default_factory=dict)


def figures(store: Store, evaluation: Mapping[str, Any], where: str | None = None) -> Figures:
    """Return the figures of an evaluation.

    Args:
        store: with its tables.
        evaluation: its row.
        where: a SQL condition on `generations`; None: all.

    Raises:
        StoreError: the condition does not work.
    """
    rows = Rows(store, evaluation, where)
    averages = Averages(rows)
    means = averages.all()
    alphas, raters = agreement(rows)
    return Figures(
        rows.models, None if where else evaluation["wanted"], _counts(rows), means, joined(means),
        averages.by_category(), pairs(rows), alphas, raters, _tuned_on(rows),
    )  # fmt: skip


def _counts(rows: Rows) -> dict[str, dict[str, Any]]:
    query = (
        "SELECT model, count(*) AS asked, count(*) FILTER (state = 'ok') AS made, "
        "count(*) FILTER (state <> 'ok') AS failed, median(wall_s) AS wall_s, any_value(width) AS width, "
        "any_value(height) AS height, any_value(num_frames) AS num_frames FROM shown GROUP BY 1"
    )
    found = {row["model"]: row for row in rows.ask(query).to_pylist()}
    none = {"asked": 0, "made": 0, "failed": 0, "wall_s": None, "width": None, "height": None, "num_frames": None}
    return {model: found.get(model, none) for model in rows.models}


def _tuned_on(rows: Rows) -> dict[str, int]:
    if "is_tuned_on" not in rows.store.schema("ratings").names:
        return {}
    found = rows.ask(
        "SELECT r.rater, count(DISTINCT r.generation_id) AS n FROM ratings r JOIN shown USING (generation_id) "
        "WHERE r.evaluation_id = $id AND r.is_tuned_on GROUP BY 1"
    )
    return {row["rater"]: row["n"] for row in found.to_pylist()}
