"""A judge against people: correlation, error, and a calibration that half of the held-out scores make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from reelwright.training.tuning.samples import Sample, VideoRef, is_held_out

LEAST = 8  # scores of a dimension that a calibration is fitted on


def fit(judge: Sequence[float], human: Sequence[float], kind: Literal["isotonic", "linear"]) -> list[list[float]]:
    """Return a rising map from a judge's scores to people's as points, [[judge, human], …]; straight between them.

    Isotonic: least squares among rising maps (Ayer et al., 1955), level beyond its ends. Linear: the least-squares
    line, level where it would fall.

    Args:
        judge: scores.
        human: people's means of the same videos.
        kind: of the map.
    """
    x, y = np.asarray(judge, float), np.asarray(human, float)
    if kind == "linear":
        variance = float(x.var())
        slope = max(0.0, float(((x - x.mean()) * (y - y.mean())).mean() / variance)) if variance else 0.0
        return [[float(at), float(y.mean() + slope * (at - x.mean()))] for at in sorted({x.min(), x.max()})]
    from sklearn.isotonic import IsotonicRegression

    model = IsotonicRegression(out_of_bounds="clip").fit(x, y)
    points = zip(model.X_thresholds_, model.y_thresholds_, strict=True)
    return [[float(a), float(b)] for a, b in points]


def calibrated(scores: Sequence[float], points: Sequence[Sequence[float]]) -> np.ndarray:
    """Return scores through a map's points, level beyond its ends."""
    x, y = np.asarray(points, float).T
    return np.interp(np.asarray(scores, float), x, y)


def judged_figures(
    rows: Sequence[Mapping[str, Any]], kind: Literal["isotonic", "linear"], seed: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return figures by dimension, and the calibrations.

    Args:
        rows: of held-out judgements: dimension, group, human, judge and before, the last two None where there is none.
        kind: of calibration.
        seed: of the halves; a group is in one of them.
    """
    figures: dict[str, Any] = {}
    calibrations: dict[str, Any] = {}
    for dimension in dict.fromkeys(row["dimension"] for row in rows):
        some = [row for row in rows if row["dimension"] == dimension and row["judge"] is not None]
        human, judge = ([row[name] for row in some] for name in ("human", "judge"))
        before = [row["before"] for row in some]
        figures[f"{dimension}/videos"] = len(some)
        figures[f"{dimension}/correlation"] = pearson(judge, human)
        figures[f"{dimension}/correlation_before"] = pearson(before, human)
        figures[f"{dimension}/error"] = float(np.abs(np.subtract(judge, human)).mean()) if some else float("nan")
        fits = [_of_first_half(row, seed) for row in some]
        own = [row for row, first in zip(some, fits, strict=True) if first]
        others = [row for row, first in zip(some, fits, strict=True) if not first]
        if min(len(own), len(others)) >= LEAST:
            points = fit([row["judge"] for row in own], [row["human"] for row in own], kind)
            error = calibrated([row["judge"] for row in others], points) - [row["human"] for row in others]
            figures[f"{dimension}/calibrated_error"] = float(np.abs(error).mean())
            calibrations[dimension] = {"kind": kind, "points": points, "fitted_on": len(own)}
    return figures, calibrations


def pearson(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the correlation; NaN where one of them does not vary."""
    if len(a) < 3 or np.std(a) == 0 or np.std(b) == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def _of_first_half(row: Mapping[str, Any], seed: int) -> bool:
    return is_held_out(Sample("", VideoRef("generation", ""), group=f"calibration:{row['group']}"), 0.5, seed)
