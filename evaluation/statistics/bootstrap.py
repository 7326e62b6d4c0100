"""Percentile bootstrap over prompts: all videos and raters of a prompt are drawn together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np

LEVEL = 0.95
RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """An estimate with the ends of its interval; all are NaN where nothing was measured."""

    value: float
    low: float
    high: float

    @property
    def is_clear_of_zero(self) -> bool:
        """Whether 0 lies outside."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Resamples:
    """Draws of prompts with replacement, shared by all figures of a set of prompts, so that differences are paired.

    Args:
        prompts: number of prompts.
        count: number of draws.
        seed: of the draws.
    """

    prompts: int
    count: int = RESAMPLES
    seed: int = 0

    @cached_property
    def weights(self) -> np.ndarray:
        """How often each prompt is in each draw, float64 [count, prompts]."""
        drawn = np.random.default_rng(self.seed).integers(0, self.prompts, (self.count, self.prompts))
        drawn += np.arange(self.count)[:, None] * self.prompts
        return np.bincount(drawn.ravel(), minlength=self.count * self.prompts).reshape(self.count, -1).astype(float)

    def means(self, sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Return the mean of each draw, [count, …]; NaN where a draw has nothing.

        Args:
            sums: of each prompt's values, [prompts, …].
            counts: of each prompt's values, [prompts, …].
        """
        both = np.concatenate([x.reshape(self.prompts, -1).astype(float) for x in (sums, counts)], axis=1)
        total, of = np.split(self.weights @ both, 2, axis=1)  # one pass over the weights
        with np.errstate(invalid="ignore", divide="ignore"):
            return (total / of).reshape(self.count, *sums.shape[1:])


def percentile_interval(value: float, draws: np.ndarray, level: float = LEVEL) -> Interval:
    """Return the percentile interval of an estimate (Efron, 1979). Draws without a value are left out.

    Args:
        value: the estimate.
        draws: the estimate of each draw, [count].
        level: share of draws inside.
    """
    known = draws[~np.isnan(draws)]
    if not known.size or np.isnan(value):
        return Interval(float("nan"), float("nan"), float("nan"))
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(value), float(low), float(high))


def mean_interval(sums: np.ndarray, counts: np.ndarray, resamples: Resamples, level: float = LEVEL) -> Interval:
    """Return the mean of all values with its interval over prompts.

    Args:
        sums: of each prompt's values, [prompts].
        counts: of each prompt's values, [prompts].
        resamples: draws of as many prompts.
        level: share of draws inside.
    """
    value = sums.sum() / counts.sum() if counts.sum() else float("nan")
    return percentile_interval(value, resamples.means(sums, counts), level)


@dataclass(frozen=True)
class Comparison:
    """Means of several models and their paired differences.

    Args:
        means: by model.
        variances: of the means, by model.
        differences: (model, later model) -> the first's mean less the other's, over the prompts that both have.
    """

    means: list[Interval]
    variances: list[float]
    differences: dict[tuple[int, int], Interval]


def compare(sums: np.ndarray, counts: np.ndarray, resamples: Resamples, level: float = LEVEL) -> Comparison:
    """Return the means of models with intervals over prompts, and the differences of each two, paired.

    Args:
        sums: of each prompt's values, [prompts, models].
        counts: of each prompt's values, [prompts, models].
        resamples: draws of as many prompts.
        level: share of draws inside.
    """
    models = sums.shape[1]
    pairs = list(combinations(range(models), 2))
    columns = [*range(models), *(i for pair in pairs for i in pair)]
    kept = np.ones((len(sums), len(columns)), bool)
    for place, (i, j) in enumerate(pairs):
        both = np.logical_and(counts[:, i] > 0, counts[:, j] > 0)
        kept[:, models + 2 * place] = kept[:, models + 2 * place + 1] = both
    sums, counts = sums[:, columns] * kept, counts[:, columns] * kept
    draws = resamples.means(sums, counts)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = sums.sum(axis=0) / counts.sum(axis=0)
        variances = draws[:, :models].var(axis=0).tolist()
    means = [percentile_interval(float(values[i]), draws[:, i], level) for i in range(models)]
    differences = {}
    for place, pair in enumerate(pairs):
        a, b = models + 2 * place, models + 2 * place + 1
        differences[pair] = percentile_interval(float(values[a] - values[b]), draws[:, a] - draws[:, b], level)
    return Comparison(means, variances, differences)
