"""Simulated studies of few repeats, the same each time; 500 are a benchmark."""

from benchmarks.evaluation.judge import measure_judge
from benchmarks.evaluation.studies import measure_mos, measure_pairs


def test_intervals_of_scores_hold_the_truth_and_models_come_out_in_order() -> None:
    found = measure_mos(40, 60)
    assert 0.88 <= found["mean_covered"] <= 1  # 160 intervals: 95 % within 4 standard deviations
    assert 0.88 <= found["difference_covered"] <= 1
    assert found["in_order"] >= 0.8
    assert found["few_raters_mean_covered"] < found["few_raters_difference_covered"]


def test_intervals_of_strengths_hold_the_truth_and_models_come_out_in_order() -> None:
    found = measure_pairs(20, 60)
    assert 0.84 <= found["strength_covered"] <= 1  # 60 intervals
    assert 0.84 <= found["gsb_covered"] <= 1
    assert found["in_order"] >= 0.8


def test_a_soft_score_follows_the_truth_closer_than_the_digit() -> None:
    found = measure_judge(20)
    assert found["soft_r"] > found["argmax_r"] + 0.02
    assert found["soft_is_higher"] == 1
