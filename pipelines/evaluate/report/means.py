"""Means of an evaluation's page: what people and judges say, measures, both by category."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from reelwright.curation.store.schema import table_of
from reelwright.curation.store.sql_text import identifier
from reelwright.evaluation.rating.scales import DIMENSIONS
from reelwright.evaluation.statistics.bootstrap import LEVEL, Interval, compare
from reelwright.evaluation.statistics.joined import Estimate, human_and_judge
from reelwright.pipelines.evaluate.report.rows import Cells, Rows, draws_of

WORST = 1.0
"""Score of a generation that failed: the lowest of the scale."""
MIN_PROMPTS = 2
"""Of a category that is shown: one prompt has no interval."""
FIRST = ("motion_score", "still_share", "blur_score", "flicker", "colour_drift", "cuts", "repeated_share",
         "text_coverage", "nearest_similarity")  # fmt: skip
"""Measures that the table by category shows first, of at most `BESIDE`."""
BESIDE = 10


@dataclass(frozen=True)
class Means:
    """One figure of all models: a dimension of people or a judge, or a measure.

    Args:
        name: dimension or column.
        title: for people.
        meaning: a phrase.
        by: people, judge or measure.
        values: by model; of an opinion, a generation that failed counts as `WORST`.
        variances: of the values, by model.
        differences: (model, other model) -> paired difference.
        prompts: in the mean.
        rater: the judge's model.
        failed: generations that failed and are in the values.
        made: values over videos that were made alone; empty where none failed.
        made_differences: differences of these.
    """

    name: str
    title: str
    meaning: str
    by: str
    values: dict[str, Interval]
    variances: dict[str, float]
    differences: dict[tuple[str, str], Interval]
    prompts: int
    rater: str = ""
    failed: int = 0
    made: dict[str, Interval] = field(default_factory=dict)
    made_differences: dict[tuple[str, str], Interval] = field(default_factory=dict)


@dataclass(frozen=True)
class ByCategory:
    """Figures of one kind by category.

    Args:
        title: who says it: People, Judge and its model, Measures.
        names: of the columns; titles for people.
        is_scale: whether values go from 1 to 5.
        rows: category -> column -> model -> mean.
    """

    title: str
    names: list[str]
    is_scale: bool
    rows: dict[str, list[dict[str, Interval]]]


@dataclass(frozen=True)
class Kind:
    """What a figure is. rater: of a judge, its model."""

    by: str
    rater: str
    name: str

    @property
    def title(self) -> str:
        """Its name for people."""
        return DIMENSIONS[self.name].title if self.by != "measure" and self.name in DIMENSIONS else self.name


class Averages:
    """Means over prompts, from one evaluation's rows."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self._made = self._opinion_cells()
        self._failed = {k: rows.failed(k.name, np.asarray(cells.counts.any(axis=1))) for k, cells in self._made.items()}
        self._measured, self._meanings = self._measured_cells()

    def all(self) -> list[Means]:
        """Return people's, each judge's, then measures."""
        found = []
        for kind, made in self._made.items():
            failed = int(self._failed[kind].sum())
            alone = self._means(kind, made, "1 to 5") if failed else None
            found.append(self._means(kind, self._counted(kind), "1 to 5", alone, failed))
        return found + [self._means(k, cells, self._meanings[k.name]) for k, cells in self._measured.items()]

    def by_category(self) -> list[ByCategory]:
        """Return a table of each group: people, each judge, measures."""
        found = []
        for by, rater in dict.fromkeys((kind.by, kind.rater) for kind in self._made):
            kinds = [kind for kind in self._made if (kind.by, kind.rater) == (by, rater)]
            title = "People" if by == "people" else f"Judge {rater}"
            found.append(self._categories(title, {kind: self._counted(kind) for kind in kinds}, is_scale=True))
        first = [kind for name in FIRST for kind in self._measured if kind.name == name]
        kinds = [*first, *(kind for kind in self._measured if kind not in first)][:BESIDE]
        found.append(self._categories("Measures", {kind: self._measured[kind] for kind in kinds}, is_scale=False))
        return [one for one in found if one.rows]

    def _counted(self, kind: Kind) -> Cells:
        """Return sums and counts with the generations that failed as the worst."""
        made, failed = self._made[kind], self._failed[kind]
        return Cells(made.sums + WORST * failed, made.counts + failed)

    def _opinion_cells(self) -> dict[Kind, Cells]:
        """By who and dimension. A video's score is the mean of its raters; repeats do not count; judges stay apart."""
        rows = self.rows.ask(
            ", each AS (SELECT generation_id, dimension, is_human, CASE WHEN is_human THEN '' ELSE rater END AS rater, "
            "avg(value) AS value FROM ratings "
            "WHERE evaluation_id = $id AND kind = 'mos' AND coalesce(repeat, 0) = 0 GROUP BY ALL) "
            "SELECT prompt_id, model, is_human, rater, dimension, sum(value) AS total, count(*) AS number "
            "FROM each JOIN shown USING (generation_id) GROUP BY ALL"
        )
        columns = (rows[name].to_pylist() for name in ("is_human", "rater", "dimension"))
        names = [
            Kind("people" if human else "judge", rater or "", name) for human, rater, name in zip(*columns, strict=True)
        ]
        order = list(DIMENSIONS)
        kinds = sorted(set(names), key=lambda k: (k.by != "people", k.rater,
                                                  order.index(k.name) if k.name in order else 99, k.name))  # fmt: skip
        index = {kind: i for i, kind in enumerate(kinds)}
        codes = np.array([index[name] for name in names], dtype=int)
        p, m = self.rows.places(rows)
        total, number = rows["total"].to_numpy(), rows["number"].to_numpy()
        return {
            kind: self.rows.cells(p[mine], m[mine], total[mine], number[mine])
            for kind, mine in ((kind, codes == i) for kind, i in index.items())
        }

    def _measured_cells(self) -> tuple[dict[Kind, Cells], dict[str, str]]:
        base = set(table_of("generations").schema.names)
        fields = [f for f in self.rows.store.schema("generations") if f.name not in base]
        fields = [f for f in fields if _is_number(f.type) and not f.name.endswith("_fingerprint")]
        if not fields:
            return {}, {}
        columns = ", ".join(
            f"sum({identifier(f.name)}::DOUBLE) AS s{i}, count({identifier(f.name)}) AS n{i}"
            for i, f in enumerate(fields)
        )
        rows = self.rows.ask(f"SELECT prompt_id, model, {columns} FROM shown WHERE state = 'ok' GROUP BY ALL")
        p, m = self.rows.places(rows)
        found = {
            Kind("measure", "", f.name): self.rows.cells(
                p, m, rows[f"s{i}"].fill_null(0).to_numpy(), rows[f"n{i}"].to_numpy()
            )
            for i, f in enumerate(fields)
        }
        meanings = {f.name: ((f.metadata or {}).get(b"meaning") or b"").decode("utf-8", "replace") for f in fields}
        return {kind: cells for kind, cells in found.items() if cells.counts.any()}, meanings

    def _means(self, kind: Kind, cells: Cells, meaning: str, alone: Means | None = None, failed: int = 0) -> Means:
        models = self.rows.models
        rated = np.flatnonzero(cells.counts.any(axis=1))
        some = cells.of(rated)
        found = compare(some.sums, some.counts, draws_of(len(rated)))
        return Means(
            kind.name, kind.title, meaning, kind.by, dict(zip(models, found.means, strict=True)),
            dict(zip(models, found.variances, strict=True)),
            {(models[i], models[j]): one for (i, j), one in found.differences.items()},
            len(rated), kind.rater, failed, alone.values if alone else {}, alone.differences if alone else {},
        )  # fmt: skip

    def _categories(self, title: str, kinds: Mapping[Kind, Cells], *, is_scale: bool) -> ByCategory:
        """Means of each category with `MIN_PROMPTS` prompts or more in one of the figures."""
        found: dict[str, list[dict[str, Interval]]] = {}
        if not kinds:
            return ByCategory(title, [], is_scale, found)
        sums = np.stack([cells.sums for cells in kinds.values()], axis=1)  # [prompts, kinds, models]
        counts = np.stack([cells.counts for cells in kinds.values()], axis=1)
        for name in sorted(set(self.rows.category)):
            mine = np.flatnonzero((self.rows.category == name) & counts.any(axis=(1, 2)))
            if len(mine) >= MIN_PROMPTS:
                means = _intervals(sums[mine], counts[mine])
                found[name] = [dict(zip(self.rows.models, of, strict=True)) for of in means]
        return ByCategory(title, [kind.title for kind in kinds], is_scale, found)


def _intervals(sums: np.ndarray, counts: np.ndarray) -> list[list[Interval]]:
    """Means with intervals over prompts. sums, counts: [prompts, kinds, models]."""
    drawn = draws_of(len(sums)).means(sums, counts)  # [draws, kinds, models]
    with np.errstate(invalid="ignore", divide="ignore"):
        values = sums.sum(axis=0) / counts.sum(axis=0)
    ends = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    has_gap = np.isnan(drawn).any(axis=0) & ~np.isnan(values)
    low, high = np.quantile(drawn, ends, axis=0)
    for i, j in zip(*np.nonzero(has_gap), strict=True):
        low[i, j], high[i, j] = np.nanquantile(drawn[:, i, j], ends)
    return [
        [Interval(float(values[i, j]), float(low[i, j]), float(high[i, j])) for j in range(values.shape[1])]
        for i in range(values.shape[0])
    ]


def joined(means: Sequence[Means]) -> dict[str, dict[str, dict[str, Interval]]]:
    """Return judge -> dimension -> model -> people and judge, 2 : 1, where both have scored."""
    people = {one.name: one for one in means if one.by == "people"}
    found: dict[str, dict[str, dict[str, Interval]]] = {}
    for judge in (one for one in means if one.by == "judge" and one.name in people):
        mine = people[judge.name]
        found.setdefault(judge.rater, {})[judge.name] = {
            model: human_and_judge(
                Estimate(mine.values[model].value, mine.variances[model]),
                Estimate(judge.values[model].value, judge.variances[model]),
            ).interval()
            for model in mine.values
        }
    return found


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)
