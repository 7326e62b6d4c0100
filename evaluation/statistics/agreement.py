"""How far raters agree: Krippendorff's alpha, each rater against the rest, and each with their own repeats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

UNRELIABLE = 0.667
"""Alpha below which data are usually called unreliable (Krippendorff, Content Analysis, 2004)."""


def krippendorff_alpha(data: np.ndarray, level: Literal["nominal", "ordinal"]) -> float:
    """Return Krippendorff's alpha: 1 for full agreement, 0 for chance; NaN where nothing can be compared.

    The formula is that of coincidences (Krippendorff, "Computing Krippendorff's Alpha-Reliability", 2011).

    Args:
        data: [raters, items], NaN where a rater has not answered.
        level: nominal for kinds of answers such as better, same, worse; ordinal for a scale of 1 to 5.
    """
    known = ~np.isnan(data)
    values, codes = np.unique(data[known], return_inverse=True)
    items = np.broadcast_to(np.arange(data.shape[1]), data.shape)[known]
    counts = np.zeros((data.shape[1], len(values)))
    np.add.at(counts, (items, codes), 1)
    counts = counts[counts.sum(axis=1) >= 2]  # an answer that stands alone compares with nothing
    if not len(counts):
        return float("nan")
    answers = counts.sum(axis=1, keepdims=True)
    observed = (counts / (answers - 1)).T @ counts - np.diag((counts / (answers - 1)).sum(axis=0))
    totals = counts.sum(axis=0)
    expected = (np.outer(totals, totals) - np.diag(totals)) / (totals.sum() - 1)
    distance = _distances(totals, level)
    by_chance = (expected * distance).sum()
    return float(1 - (observed * distance).sum() / by_chance) if by_chance else float("nan")


def _distances(totals: np.ndarray, level: str) -> np.ndarray:
    """Squared distance of values: 1 if they differ, or by how many answers lie between them in rank."""
    if level == "nominal":
        return 1.0 - np.eye(len(totals))
    below = np.cumsum(totals) - totals / 2  # middle rank of each value
    return (below[:, None] - below[None, :]) ** 2


def rater_against_rest(data: np.ndarray, rest: np.ndarray | None = None) -> list[float]:
    """Return each rater's Pearson correlation with the mean of the others on the items that both have.

    Args:
        data: [raters, items], NaN where a rater has not answered.
        rest: whose answers are in that mean, bool [raters], such as people and no judges; None: all.

    Returns:
        One figure per rater; NaN with fewer than 3 items, or where all answers are alike.
    """
    known = ~np.isnan(data)
    filled = np.where(known, data, 0.0)
    counted = np.ones(len(data), bool) if rest is None else rest
    sums, counts = filled[counted].sum(axis=0), known[counted].sum(axis=0)
    found = []
    for mine, has, is_one in zip(filled, known, counted, strict=True):
        of, number = (sums - mine, counts - has) if is_one else (sums, counts)
        shared = has & (number > 0)
        found.append(_pearson(mine[shared], of[shared] / number[shared]))
    return found


def _pearson(a: np.ndarray, b: np.ndarray) -> float:
    if len(a) < 3 or not np.ptp(a) or not np.ptp(b):
        return float("nan")
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


@dataclass(frozen=True)
class Consistency:
    """How a rater answers an item that is shown again: number of repeats, share alike, mean distance of the answers."""

    repeats: int
    same: float
    distance: float


def consistency(pairs: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, Consistency]:
    """Return each rater's consistency.

    Args:
        pairs: rater -> (first answer, answer to the repeat) of each item shown twice.
    """
    found = {}
    for rater, both in pairs.items():
        if both:
            off = np.abs(np.subtract(*np.asarray(both, float).T))
            found[rater] = Consistency(len(both), float((off == 0).mean()), float(off.mean()))
    return found
