"""What counts as a bad step, and when too many are."""

import pytest

from reelwright.training.errors import TrainError
from reelwright.training.guard import Guard
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
