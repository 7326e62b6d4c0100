"""Percentile bootstrap over prompts: all videos and raters of a prompt are drawn together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

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
        shape = (self.count, *sums.shape[1:])
        total, of = (self.weights @ x.reshape(self.prompts, -1).astype(float) for x in (sums, counts))
        with np.errstate(invalid="ignore", divide="ignore"):
            return (total / of).reshape(shape)


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


def difference_interval(
    sums: np.ndarray, counts: np.ndarray, pair: tuple[int, int], resamples: Resamples, level: float = LEVEL
) -> Interval:
    """Return the first model's mean less the second's, over the prompts that both have, paired.

    Args:
        sums: of each prompt's values, [prompts, models].
        counts: of each prompt's values, [prompts, models].
        pair: columns of the two models.
        resamples: draws of as many prompts.
        level: share of draws inside.
    """
    both = np.all(counts[:, pair] > 0, axis=1, keepdims=True)
    sums, counts = sums[:, pair] * both, counts[:, pair] * both
    if not both.any():
        return Interval(float("nan"), float("nan"), float("nan"))
    means = sums.sum(axis=0) / counts.sum(axis=0)
    draws = resamples.means(sums, counts)
    return percentile_interval(float(means[0] - means[1]), draws[:, 0] - draws[:, 1], level)
