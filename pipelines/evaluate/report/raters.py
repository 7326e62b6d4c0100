"""Raters of an evaluation's page: agreement, repeats, attention checks, pace."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from reelwright.evaluation.statistics import agreement as statistics
from reelwright.pipelines.evaluate.report.rows import Rows


@dataclass(frozen=True)
class Rater:
    """A rater: answers, agreement with the other people by dimension in the mean, with themselves on repeats, pace.

    checks, passed: attention checks, and those of them that were answered as asked in every dimension.
    """

    name: str
    is_human: bool
    answers: int
    with_rest: float
    own: statistics.Consistency | None
    median_s: float
    checks: int = 0
    passed: int = 0


def agreement(source: Rows) -> tuple[dict[tuple[str, str], float], list[Rater]]:
    """Return (kind, dimension) -> Krippendorff's alpha of people, and the raters."""
    rows = source.ask(
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
            alphas[key] = statistics.krippendorff_alpha(of_people, "ordinal" if key[0] == "mos" else "nominal")
        for i, r in enumerate(statistics.rater_against_rest(data[0], people)):
            rest[names[i]].append(r)
        for i, j in zip(*np.nonzero(~np.isnan(data[0]) & ~np.isnan(shown[0])), strict=True):
            again[names[i]].append((float(data[0][i, j]), float(shown[0][i, j])))
    own = statistics.consistency(again)
    seconds = rows["seconds"].to_numpy()
    checks = _checks(source)
    raters = [
        Rater(name, bool(people[i]), int((rater == i).sum()), _mean(rest[name]), own.get(name),
              float(np.nanmedian(seconds[rater == i])) if (~np.isnan(seconds[rater == i])).any() else float("nan"),
              *checks.get(name, (0, 0)))
        for i, name in enumerate(names)
    ]  # fmt: skip
    return alphas, raters


def _checks(source: Rows) -> dict[str, tuple[int, int]]:
    """Return rater -> attention checks that were answered, and those in which every answer was the one asked for.

    A check is about no video, so a condition on generations leaves none out.
    """
    rows = source.ask(
        ", each AS (SELECT rater, study_id, item_id, expected, bool_and(value = expected) AS passed FROM ratings "
        "WHERE evaluation_id = $id AND kind = 'check' GROUP BY ALL) "
        "SELECT rater, count(*) AS checks, count(*) FILTER (passed) AS passed FROM each GROUP BY 1"
    )
    return {row["rater"]: (row["checks"], row["passed"]) for row in rows.to_pylist()}


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
