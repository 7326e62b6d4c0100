"""Intervals of a finished run's held-out figures, by bootstrap over prompts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reelwright.evaluation.statistics.bootstrap import Interval, Resamples, mean_interval, percentile_interval


def intervals_of(use: str, folder: Path) -> dict[str, Interval]:
    """Return intervals by figure, from held_out.jsonl: a judge's correlations, a reward's accuracies."""
    path = folder / "held_out.jsonl"
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.is_file() else []
    if use == "judge":
        return {f"{name}/correlation": _correlation(some) for name, some in _by_dimension(rows).items()}
    if use == "reward":
        names = dict.fromkeys(name for row in rows for name in row["choices"])
        return {f"{name}/accuracy": _accuracy(rows, name) for name in names}
    return {}


def add_intervals(use: str, folder: Path) -> dict[str, Interval]:
    """Write the intervals into a run's result.json, and return them."""
    found = intervals_of(use, folder)
    if found:
        path = folder / "result.json"
        result = json.loads(path.read_text("utf-8"))
        result["intervals"] = {name: [one.value, one.low, one.high] for name, one in found.items()}
        part = path.with_suffix(".part")
        part.write_text(json.dumps(result, indent=1), encoding="utf-8")
        part.replace(path)
    return found


def _by_dimension(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["judge"] is not None:
            found.setdefault(row["dimension"], []).append(row)
    return found


def _correlation(rows: Sequence[Mapping[str, Any]]) -> Interval:
    """Return Pearson's r over videos; prompts are drawn whole."""
    groups = sorted({row["group"] for row in rows})
    place = np.array([groups.index(row["group"]) for row in rows])
    x, y = (np.array([row[name] for row in rows], float) for name in ("judge", "human"))
    weights = Resamples(len(groups)).weights[:, place]  # [draws, rows]
    with np.errstate(invalid="ignore", divide="ignore"):
        value = _weighted_r(x, y, np.ones((1, len(rows))))[0]
        return percentile_interval(float(value), _weighted_r(x, y, weights))


def _weighted_r(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    total = weights.sum(1)
    mean_x, mean_y = weights @ x / total, weights @ y / total
    covariance = weights @ (x * y) / total - mean_x * mean_y
    variances = (weights @ x**2 / total - mean_x**2) * (weights @ y**2 / total - mean_y**2)
    return covariance / np.sqrt(np.maximum(variances, 0))


def _accuracy(rows: Sequence[Mapping[str, Any]], name: str) -> Interval:
    """Return the share of decided pairs whose better video scores higher; prompts are drawn whole."""
    decided = [row for row in rows if row["choices"].get(name)]
    groups = sorted({row["group"] for row in decided})
    if not groups:
        return Interval(float("nan"), float("nan"), float("nan"))
    sums, counts = np.zeros(len(groups)), np.zeros(len(groups))
    for row in decided:
        at = groups.index(row["group"])
        counts[at] += 1
        sums[at] += np.sign(row["first"][name] - row["second"][name]) == row["choices"][name]
    return mean_interval(sums, counts, Resamples(len(groups)))
