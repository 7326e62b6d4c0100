"""Intervals over prompts: equal to scipy's bootstrap, with the clusters that were asked for."""

import numpy as np
import pytest
from scipy.stats import bootstrap

from reelwright.evaluation.statistics.bootstrap import (
    Interval,
    Resamples,
    compare,
    mean_interval,
    percentile_interval,
)
from reelwright.evaluation.statistics.joined import Estimate, human_and_judge

SEED = 7


def test_the_interval_of_a_mean_is_scipy_s() -> None:
    values = np.random.default_rng(1).normal(3.2, 0.8, 40)
    theirs = bootstrap((values,), np.mean, n_resamples=500, method="percentile", rng=np.random.default_rng(SEED))
    ours = mean_interval(values, np.ones(40), Resamples(40, 500, SEED))
    assert ours.value == pytest.approx(values.mean(), abs=1e-12)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval), abs=1e-9)


def test_a_ragged_mean_and_a_paired_difference_are_scipy_s() -> None:
    """Prompts with 1 to 4 videos; a prompt that only one model has counts in neither mean."""
    rng = np.random.default_rng(2)
    counts = rng.integers(1, 5, (30, 2))
    sums = rng.normal(3, 1, (30, 2)) * counts

    def difference(s, n, t, m, axis):
        return s.sum(axis) / n.sum(axis) - t.sum(axis) / m.sum(axis)

    data = (sums[:, 0], counts[:, 0], sums[:, 1], counts[:, 1])
    theirs = bootstrap(
        data, difference, paired=True, vectorized=True, n_resamples=400, method="percentile",
        rng=np.random.default_rng(SEED),
    )  # fmt: skip
    found = compare(sums, counts, Resamples(30, 400, SEED))
    ours = found.differences[0, 1]
    alone = mean_interval(sums[:, 1], counts[:, 1], Resamples(30, 400, SEED))
    assert (found.means[1].low, found.means[1].high) == pytest.approx((alone.low, alone.high), abs=1e-12)
    draws = Resamples(30, 400, SEED).means(sums[:, 1], counts[:, 1])
    assert found.variances[1] == pytest.approx(draws.var(), abs=1e-12)
    assert ours.value == pytest.approx(difference(*data, axis=0), abs=1e-12)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval), abs=1e-9)
    counts[3:9, 1] = 0
    kept = counts[:, 1] > 0
    alone = compare(sums, counts, Resamples(30, 400, SEED)).differences[0, 1]
    assert alone.value == pytest.approx(difference(*(x[kept] for x in data), axis=0), abs=1e-12)
    turned = compare(sums[:, ::-1], counts[:, ::-1], Resamples(30, 400, SEED)).differences[0, 1]
    assert (turned.value, turned.low) == pytest.approx((-alone.value, -alone.high), abs=1e-12)


def test_raters_of_one_prompt_are_no_independent_votes() -> None:
    """100 equal answers to each of 10 prompts are as uncertain as one; the naive interval is 10 times narrower."""
    means = np.arange(10.0)
    one = mean_interval(means, np.ones(10), Resamples(10, 300, SEED))
    many = mean_interval(means * 100, np.full(10, 100), Resamples(10, 300, SEED))
    assert (many.low, many.high) == pytest.approx((one.low, one.high), abs=1e-12)


def test_a_draw_holds_as_many_prompts_as_there_are() -> None:
    weights = Resamples(9, 50, SEED).weights
    assert weights.shape == (50, 9)
    assert (weights.sum(axis=1) == 9).all()


def test_nothing_measured_is_no_number() -> None:
    none = mean_interval(np.zeros(3), np.zeros(3), Resamples(3, 10))
    assert np.isnan([none.value, none.low, none.high]).all()
    assert not none.is_clear_of_zero
    assert np.isnan(compare(np.array([[1, 0]] * 3), np.array([[1, 0]] * 3), Resamples(3, 10)).differences[0, 1].value)
    draws = np.array([1.0, np.nan, 2.0, 3.0])
    assert percentile_interval(2.0, draws, 1.0) == Interval(2.0, 1.0, 3.0)
    assert Interval(1, 0.1, 2).is_clear_of_zero
    assert Interval(-1, -2, -0.1).is_clear_of_zero
    assert not Interval(1, -0.1, 2).is_clear_of_zero


def test_people_count_twice_beside_a_judge() -> None:
    """By hand: (2 · 3.5 + 3.2) / 3 = 3.4; (4 · 0.04 + 0.02) / 9 = 0.02; 1.959963984540054 · √0.02 = 0.277180…"""
    joined = human_and_judge(Estimate(3.5, 0.04), Estimate(3.2, 0.02))
    assert joined.value == pytest.approx(3.4, abs=1e-12)
    assert joined.variance == pytest.approx(0.02, abs=1e-12)
    assert joined.interval().low == pytest.approx(3.4 - 0.2771807648699355, abs=1e-9)
    assert joined.interval().high == pytest.approx(3.4 + 0.2771807648699355, abs=1e-9)
