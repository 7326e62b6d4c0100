"""What counts as a bad step, and when too many are."""

import json

import pytest

from reelwright.training.errors import TrainError
from reelwright.training.guard import WINDOW, Guard
from reelwright.training.recipe import GuardConfig

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(("loss", "norm"), [(NAN, 1.0), (INF, 1.0), (1.0, NAN), (1.0, INF), (1.0, 11.0)])
def test_a_bad_step_is_skipped_and_counted(loss, norm):
    guard = Guard(GuardConfig(max_norm=10, max_skipped=2))
    assert not guard.allows(1, loss, norm)
    assert guard.allows(2, 1.0, 10.0)
    assert (guard.skipped, guard.skipped_in_a_row) == (1, 0)


def test_past_the_limit_the_run_stops_with_what_to_do():
    guard = Guard(GuardConfig(max_norm=10, max_skipped=2))
    assert not guard.allows(7, NAN, 1.0)
    assert not guard.allows(8, NAN, 1.0)
    with pytest.raises(TrainError, match=r"step 9: the gradient's norm is 50, above guard.max_norm 10.*optim.lr"):
        guard.allows(9, 1.0, 50.0)
    assert guard.skipped == 3


def test_a_leap_over_the_median_of_the_last_steps_is_skipped_and_one_below_it_is_not() -> None:
    guard = Guard(GuardConfig(max_ratio=20))
    for step in range(WINDOW):
        assert guard.allows(step, 1.0, 0.5 if step % 2 else 1.5)
    assert guard.allows(WINDOW, 1.0, 9.9)
    assert not guard.allows(WINDOW + 1, 1.0, 31.0)
    assert guard.skipped == 1
    assert Guard(GuardConfig(max_ratio=0), norms=guard.norms).allows(0, 1.0, 31.0)


def test_a_leap_is_judged_only_where_there_are_steps_to_compare_with_and_resuming_knows_them() -> None:
    guard = Guard(GuardConfig())
    for step in range(WINDOW - 1):
        guard.allows(step, 1.0, 1.0)
    assert guard.allows(WINDOW, 1.0, 500.0)
    later = Guard(GuardConfig())
    later.load(json.loads(json.dumps(guard.state())))
    assert later == guard
    assert not later.allows(WINDOW + 1, 1.0, 500.0)
    later.load({"skipped": 3, "skipped_in_a_row": 1})
    assert (later.skipped, len(later.norms)) == (3, 0)


def test_gradients_that_stay_large_end_the_run_with_a_sentence() -> None:
    guard = Guard(GuardConfig(max_skipped=2))
    for step in range(WINDOW):
        guard.allows(step, 1.0, 1.0)
    assert not guard.allows(WINDOW, 1.0, 100.0)
    assert not guard.allows(WINDOW, 1.0, 100.0)
    with pytest.raises(TrainError, match=r"guard\.max_ratio 20 times 1, the median"):
        guard.allows(WINDOW, 1.0, 100.0)


def test_a_leap_is_more_than_twenty_times_the_median_of_a_hundred_steps() -> None:
    guard = Guard(GuardConfig())
    for step in range(99):
        guard.allows(step, 1.0, 1.0)
    assert guard.allows(99, 1.0, 21.0), "of 99 steps there is no usual norm yet"
    assert guard.allows(100, 1.0, 20.0)
    assert not guard.allows(101, 1.0, 20.01)
    assert guard.allows(102, 1.0, 20.0), "the next step is judged for itself"
    assert len(guard.state()["norms"]) == 100
