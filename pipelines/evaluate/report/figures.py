"""The figures of an evaluation's page: means with intervals over prompts, pairs, categories, raters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa

from reelwright.curation.store import Store
from reelwright.curation.store.schema import table_of
from reelwright.curation.store.sql_text import identifier
from reelwright.errors import UserError
from reelwright.evaluation.rating.scales import DIMENSIONS
from reelwright.evaluation.statistics import agreement
from reelwright.evaluation.statistics.bootstrap import Interval, Resamples, compare, mean_interval
from reelwright.evaluation.statistics.joined import Estimate, human_and_judge
from reelwright.evaluation.statistics.pairs import Gsb, Strengths, davidson

MIN_PROMPTS = 2
"""Of a category that is shown: one prompt has no interval."""


@dataclass(frozen=True)
class Means:
    """One figure of all models: a dimension of people or a judge, or a measure.

    Args:
        name: dimension or column.
        title: for people.
        meaning: a phrase.
        by: people, judge or measure.
        values: by model.
        variances: of the values, by model.
        differences: (model, other model) -> paired difference.
        prompts: in the mean.
    """

    name: str
    title: str
    meaning: str
    by: str
    values: dict[str, Interval]
    variances: dict[str, float]
    differences: dict[tuple[str, str], Interval]
    prompts: int


@dataclass(frozen=True)
class Pairs:
    """What people said to pairs in one dimension.

    Args:
        dimension: its name.
        gsb: (model, other model) -> counts.
        intervals: of GSB, over prompts.
        strengths: Davidson's model, or why there is none.
    """

    dimension: str
    gsb: dict[tuple[str, str], Gsb]
    intervals: dict[tuple[str, str], Interval]
    strengths: Strengths | str


@dataclass(frozen=True)
class Rater:
    """A rater: answers, agreement with the others by dimension in the mean, with themselves on repeats, pace.

    checks, passed: attention checks, and those of them that were answered as asked in every dimension.
    """

    name: str
    is_human: bool
    answers: int
    with_rest: float
    own: agreement.Consistency | None
    median_s: float
    checks: int = 0
    passed: int = 0


@dataclass
class Figures:
    """All figures. alphas: (kind, dimension) -> Krippendorff's alpha; categories: name -> model -> mean."""

    models: tuple[str, ...]
    counts: dict[str, dict[str, Any]] = field(default_factory=dict)
    means: list[Means] = field(default_factory=list)
    joined: dict[str, dict[str, Interval]] = field(default_factory=dict)
    categories: dict[str, dict[str, Interval]] = field(default_factory=dict)
    category_of: str = ""
    pairs: list[Pairs] = field(default_factory=list)
    alphas: dict[tuple[str, str], float] = field(default_factory=dict)
    raters: list[Rater] = field(default_factory=list)


def figures(store: Store, evaluation: Mapping[str, Any], where: str | None = None) -> Figures:
    """Return the figures of an evaluation.

    Args:
        store: with its tables.
        evaluation: its row.
        where: a SQL condition on `generations`; None: all.

    Raises:
        StoreError: the condition does not work.
    """
    source = _Source(store, evaluation, where)
    found = Figures(source.models)
    found.counts = source.counts()
    found.means = [*source.opinions(), *source.measures()]
    found.joined = _joined(found.means)
    found.category_of, found.categories = source.by_category()
    found.pairs = source.pairs()
    found.alphas, found.raters = source.agreement()
    return found


@dataclass(frozen=True)
class _Cells:
    """Sums and counts of a figure by prompt and model."""

    sums: np.ndarray
    counts: np.ndarray

    def of(self, prompts: np.ndarray) -> _Cells:
        return _Cells(self.sums[prompts], self.counts[prompts])


class _Source:
    """Queries over one evaluation's rows, and what follows from them."""

    def __init__(self, store: Store, evaluation: Mapping[str, Any], where: str | None) -> None:
        self.store, self.models = store, tuple(evaluation["models"])
        self.params = {"id": evaluation["evaluation_id"]}
        condition = f" AND ({where}\n)" if where else ""
        self.shown = f"WITH shown AS (SELECT * FROM generations WHERE evaluation_id = $id{condition})"
        base = set(table_of("generations").schema.names)
        fields = [f for f in store.schema("generations") if f.name not in base]
        self.measured = [f for f in fields if _is_number(f.type) and not f.name.endswith("_fingerprint")]
        prompts = self.ask("SELECT prompt_id, any_value(category) AS category FROM shown GROUP BY 1 ORDER BY 1")
        self.prompts = {name: i for i, name in enumerate(prompts["prompt_id"].to_pylist())}
        self.category = np.array([name or "" for name in prompts["category"].to_pylist()], dtype=object)
        self.place = {name: i for i, name in enumerate(self.models)}

    def ask(self, query: str) -> pa.Table:
        return self.store.sql(f"{self.shown} {query}", params=self.params)

    def counts(self) -> dict[str, dict[str, Any]]:
        query = (
            "SELECT model, count(*) AS asked, count(*) FILTER (state = 'ok') AS made, "
            "count(*) FILTER (state <> 'ok') AS failed, median(wall_s) AS wall_s, any_value(width) AS width, "
            "any_value(height) AS height, any_value(num_frames) AS num_frames FROM shown GROUP BY 1"
        )
        found = {row["model"]: row for row in self.ask(query).to_pylist()}
        none = {"asked": 0, "made": 0, "failed": 0, "wall_s": None, "width": None, "height": None, "num_frames": None}
        return {model: found.get(model, none) for model in self.models}

    # --- means ----------------------------------------------------------------------------------------------------

    def opinions(self) -> list[Means]:
        return [
            self._means(cells, name, DIMENSIONS[name].title if name in DIMENSIONS else name, "1 to 5", by)
            for (by, name), cells in self._opinion_cells.items()
        ]

    @cached_property
    def _opinion_cells(self) -> dict[tuple[str, str], _Cells]:
        """By (people or judge, dimension). The score of a video is the mean of its raters; repeats do not count."""
        rows = self.ask(
            ", each AS (SELECT generation_id, dimension, is_human, avg(value) AS value FROM ratings "
            "WHERE evaluation_id = $id AND kind = 'mos' AND repeat = 0 GROUP BY ALL) "
            "SELECT prompt_id, model, is_human, dimension, sum(value) AS total, count(*) AS number "
            "FROM each JOIN shown USING (generation_id) GROUP BY ALL"
        )
        who = ["people" if human else "judge" for human in rows["is_human"].to_pylist()]
        names = list(zip(who, rows["dimension"].to_pylist(), strict=True))
        order = list(DIMENSIONS)
        kinds = sorted(set(names), key=lambda k: (k[0] != "people", order.index(k[1]) if k[1] in order else 99, k[1]))
        codes = np.array([kinds.index(name) for name in names], dtype=int)
        p, m = self._places(rows)
        cells = {}
        for code, kind in enumerate(kinds):
            mine = codes == code
            cells[kind] = self._cells(p[mine], m[mine], rows["total"].to_numpy()[mine], rows["number"].to_numpy()[mine])
        return cells

    def measures(self) -> list[Means]:
        if not self.measured:
            return []
        columns = ", ".join(
            f"sum({identifier(f.name)}::DOUBLE) AS s{i}, count({identifier(f.name)}) AS n{i}"
            for i, f in enumerate(self.measured)
        )
        rows = self.ask(f"SELECT prompt_id, model, {columns} FROM shown WHERE state = 'ok' GROUP BY ALL")
        p, m = self._places(rows)
        found = []
        for i, f in enumerate(self.measured):
            cells = self._cells(p, m, rows[f"s{i}"].fill_null(0).to_numpy(), rows[f"n{i}"].to_numpy())
            if cells.counts.any():
                meaning = ((f.metadata or {}).get(b"meaning") or b"").decode("utf-8", "replace")
                found.append(self._means(cells, f.name, f.name, meaning, "measure"))
        return found

    def _places(self, rows: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """Index of each row's prompt and model; rows of models that the evaluation does not name are left out by -1."""
        p = np.array([self.prompts[name] for name in rows["prompt_id"].to_pylist()], dtype=int)
        m = np.array([self.place.get(name, -1) for name in rows["model"].to_pylist()], dtype=int)
        return p, m

    def _cells(self, p: np.ndarray, m: np.ndarray, sums: np.ndarray, counts: np.ndarray) -> _Cells:
        shape = (len(self.prompts), len(self.models))
        cells = _Cells(np.zeros(shape), np.zeros(shape))
        known = m >= 0
        np.add.at(cells.sums, (p[known], m[known]), sums[known])
        np.add.at(cells.counts, (p[known], m[known]), counts[known])
        return cells

    def _means(self, cells: _Cells, name: str, title: str, meaning: str, by: str) -> Means:
        rated = np.flatnonzero(cells.counts.any(axis=1))
        some, draws = cells.of(rated), _draws(len(rated))
        found = compare(some.sums, some.counts, draws)
        values = dict(zip(self.models, found.means, strict=True))
        variances = dict(zip(self.models, found.variances, strict=True))
        differences = {(self.models[i], self.models[j]): one for (i, j), one in found.differences.items()}
        return Means(name, title, meaning, by, values, variances, differences, len(rated))

    def by_category(self) -> tuple[str, dict[str, dict[str, Interval]]]:
        """Return what is shown by category, people's overall score if there is one, and its means."""
        cells = self._opinion_cells
        kind = next((k for k in (("people", "overall"), ("judge", "overall"), *cells) if k in cells), None)
        if kind is None:
            return "", {}
        found = {}
        for name in sorted(set(self.category)):
            mine = np.flatnonzero((self.category == name) & cells[kind].counts.any(axis=1))
            if len(mine) >= MIN_PROMPTS:
                some = cells[kind].of(mine)
                means = compare(some.sums, some.counts, _draws(len(mine))).means
                found[name] = dict(zip(self.models, means, strict=True))
        title = DIMENSIONS[kind[1]].title if kind[1] in DIMENSIONS else kind[1]
        return f"{title}, {kind[0]}", found

    # --- pairs ----------------------------------------------------------------------------------------------------

    def pairs(self) -> list[Pairs]:
        rows = self.ask(
            "SELECT a.prompt_id, a.model, b.model AS other, r.dimension, r.value, count(*) AS number FROM ratings r "
            "JOIN shown a ON r.generation_id = a.generation_id JOIN shown b ON r.other_id = b.generation_id "
            "WHERE r.evaluation_id = $id AND r.kind = 'gsb' AND r.repeat = 0 AND r.is_human GROUP BY ALL"
        ).to_pylist()
        names = sorted({row["dimension"] for row in rows}, key=lambda d: (d != "overall", d))
        return [self._pairs(name, [row for row in rows if row["dimension"] == name]) for name in names]

    def _pairs(self, dimension: str, rows: Sequence[Mapping[str, Any]]) -> Pairs:
        prompts = {name: i for i, name in enumerate(sorted({row["prompt_id"] for row in rows}))}
        size = (len(prompts), len(self.models), len(self.models))
        wins, ties = np.zeros(size), np.zeros(size)
        for row in rows:
            p, i, j = prompts[row["prompt_id"]], self.place.get(row["model"]), self.place.get(row["other"])
            if i is None or j is None:
                continue
            if row["value"] == 0:
                ties[p, i, j] += row["number"]
                ties[p, j, i] += row["number"]
            else:
                better, worse = (i, j) if row["value"] > 0 else (j, i)
                wins[p, better, worse] += row["number"]
        draws = _draws(len(prompts))
        gsb, intervals = {}, {}
        for i, j in combinations(range(len(self.models)), 2):
            good, same, bad = wins[:, i, j], ties[:, i, j], wins[:, j, i]
            pair = self.models[i], self.models[j]
            if (good + same + bad).any():
                gsb[pair] = Gsb(int(good.sum()), int(same.sum()), int(bad.sum()))
                intervals[pair] = mean_interval(good - bad, good + same + bad, draws)
        try:
            strengths: Strengths | str = davidson(self.models, wins, ties, draws)
        except UserError as error:
            strengths = str(error)
        return Pairs(dimension, gsb, intervals, strengths)

    # --- raters ---------------------------------------------------------------------------------------------------

    def agreement(self) -> tuple[dict[tuple[str, str], float], list[Rater]]:
        rows = self.ask(
            "SELECT r.rater, r.is_human, r.kind || chr(31) || r.dimension AS both, r.repeat, r.value, r.seconds, "
            "r.generation_id || coalesce(r.other_id, '') AS item "
            "FROM ratings r JOIN shown g ON r.generation_id = g.generation_id WHERE r.evaluation_id = $id"
        )
        if not rows.num_rows:
            return {}, []
        rater, names = _codes(rows["rater"])
        item, _ = _codes(rows["item"])
        kind, kinds = _codes(rows["both"])
        value, repeat = rows["value"].to_numpy(), rows["repeat"].fill_null(0).to_numpy()
        human = rows["is_human"].fill_null(False).to_numpy(zero_copy_only=False)
        people = np.array([human[rater == i].all() for i in range(len(names))])
        alphas: dict[tuple[str, str], float] = {}
        rest: dict[str, list[float]] = {name: [] for name in names}
        again: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
        for code, both in enumerate(kinds):
            mine = kind == code
            data = _matrix(rater[mine & (repeat == 0)], item[mine & (repeat == 0)], value[mine & (repeat == 0)], names)
            shown = _matrix(rater[mine & (repeat > 0)], item[mine & (repeat > 0)], value[mine & (repeat > 0)], names,
                            data[1])  # fmt: skip
            of_people = data[0][people]
            key = both.split("\x1f")[0], both.split("\x1f")[1]
            if (~np.isnan(of_people)).any():
                alphas[key] = agreement.krippendorff_alpha(of_people, "ordinal" if key[0] == "mos" else "nominal")
            for i, r in enumerate(agreement.rater_against_rest(data[0])):
                rest[names[i]].append(r)
            for i, j in zip(*np.nonzero(~np.isnan(data[0]) & ~np.isnan(shown[0])), strict=True):
                again[names[i]].append((float(data[0][i, j]), float(shown[0][i, j])))
        own = agreement.consistency(again)
        seconds = rows["seconds"].to_numpy()
        checks = self._checks()
        raters = [
            Rater(name, bool(people[i]), int((rater == i).sum()), _mean(rest[name]), own.get(name),
                  float(np.nanmedian(seconds[rater == i])) if (~np.isnan(seconds[rater == i])).any() else float("nan"),
                  *checks.get(name, (0, 0)))
            for i, name in enumerate(names)
        ]  # fmt: skip
        return alphas, raters

    def _checks(self) -> dict[str, tuple[int, int]]:
        """Return rater -> attention checks that were answered, and those in which every answer was the one asked for.

        A check is about no video, so a condition on generations leaves none out.
        """
        rows = self.ask(
            ", each AS (SELECT rater, study_id, item_id, expected, bool_and(value = expected) AS passed FROM ratings "
            "WHERE evaluation_id = $id AND kind = 'check' GROUP BY ALL) "
            "SELECT rater, count(*) AS checks, count(*) FILTER (passed) AS passed FROM each GROUP BY 1"
        )
        return {row["rater"]: (row["checks"], row["passed"]) for row in rows.to_pylist()}


@cache
def _draws(prompts: int) -> Resamples:
    return Resamples(prompts)


def _codes(column: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    encoded = column.combine_chunks().dictionary_encode()
    encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    return encoded.indices.to_numpy(), [str(name) for name in encoded.dictionary.to_pylist()]


def _matrix(
    rater: np.ndarray, item: np.ndarray, value: np.ndarray, names: Sequence[str], items: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Values as [raters, items], NaN where there is none, and the items' codes."""
    items = np.unique(item) if items is None else items
    known = np.isin(item, items)
    data = np.full((len(names), len(items)), np.nan)
    data[rater[known], np.searchsorted(items, item[known])] = value[known]
    return data, items


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else float("nan")


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)


def _joined(means: Sequence[Means]) -> dict[str, dict[str, Interval]]:
    """People and judge, 2 : 1, by dimension and model, where both have scored."""
    people = {one.name: one for one in means if one.by == "people"}
    judge = {one.name: one for one in means if one.by == "judge"}
    found: dict[str, dict[str, Interval]] = {}
    for name in (name for name in people if name in judge):
        by_people, by_judge = people[name], judge[name]
        found[name] = {
            model: human_and_judge(
                Estimate(by_people.values[model].value, by_people.variances[model]),
                Estimate(by_judge.values[model].value, by_judge.variances[model]),
            ).interval()
            for model in by_people.values
        }
    return found
