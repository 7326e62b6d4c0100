"""Figures of a reward against people's choices, by hand, and the likeliest choice against the model's own odds."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from reelwright.training.errors import TrainError
from reelwright.training.tuning.chosen import chosen_figures, likeliest
from reelwright.training.tuning.recipe import RewardRecipe
from reelwright.training.tuning.scoring import RewardSettings, read_settings


def pair(first: float, second: float, **choices: int) -> dict:
    return {"choices": choices, "first": {"a": first, "b": 2.0, "c": 0.0}, "second": {"a": second, "b": 2.0, "c": 1.0}}


def test_figures_by_hand() -> None:
    rows = [pair(4, 0, a=1), pair(3, 0, a=-1), pair(0, 5, a=-1), pair(1.1, 1, a=0), pair(1, 6, a=0), pair(0, 1, b=0)]
    found = chosen_figures(rows, ("a", "b", "c"), 5.0)
    assert (found["pairs"], found["a/decided"], found["b/decided"]) == (6, 3, 0)
    assert found["a/accuracy"] == pytest.approx(2 / 3)  # the second pair has it the other way
    assert found["a/accuracy_with_ties"] == pytest.approx(3 / 5)  # and the fifth is no tie to it
    assert math.isnan(found["b/accuracy"])
    assert found["b/accuracy_with_ties"] == 1
    assert math.isnan(found["c/accuracy_with_ties"])
    scores = [4, 0, 3, 0, 0, 5, 1.1, 1, 1, 6, 0, 1]
    mean = sum(scores) / 12
    spread = math.sqrt(sum((score - mean) ** 2 for score in scores) / 12)
    assert found["normal"]["a"] == pytest.approx({"mean": mean, "std": spread})
    assert found["normal"]["b"] == {"mean": 2.0, "std": 1.0}  # all the same: nothing to divide by


def test_nobody_s_choices_have_no_figures() -> None:
    assert chosen_figures([], ("a",), 2.0)["normal"] == {}


@pytest.mark.parametrize("k", [1.5, 5.0])
def test_the_likeliest_choice_is_that_of_the_odds(k: float) -> None:
    """π₁/(π₁ + kπ₂), π₂/(π₂ + kπ₁), and what is left of 1."""
    seen = set()
    for difference in np.linspace(-4, 4, 161):
        one, other = math.exp(difference), 1.0
        wins, loses = one / (one + k * other), other / (other + k * one)
        odds = {1: wins, -1: loses, 0: 1 - wins - loses}
        best = sorted(odds.values())[-2:]
        if best[1] - best[0] > 1e-9:
            assert odds[likeliest(difference, k)] == best[1]
            seen.add(likeliest(difference, k))
    assert seen == ({1, 0, -1} if k == 5.0 else {1, -1})
    assert (likeliest(1e6, k), likeliest(-1e6, k)) == (1, -1)


def test_scores_are_told_in_deviations_where_they_are_known() -> None:
    settings = RewardSettings(RewardRecipe(dimensions=("a", "b")), {"a": {"mean": 3.0, "std": 0.5}})
    assert settings.normalised([4.0, 4.0]) == {"a": 2.0, "b": 4.0}


def test_settings_of_another_form_are_refused(tmp_path: Path) -> None:
    told = {"format": 1, "dimensions": ["a"], "normal": {"a": {"mean": 1, "std": 2}}}
    (tmp_path / "reward.json").write_text(json.dumps(told))
    assert read_settings(tmp_path).normal == {"a": {"mean": 1.0, "std": 2.0}}
    for other in ({"format": 2}, {"normal": {"a": {"mean": 1}}}, {"dimensions": []}, {"beauty": 1}):
        (tmp_path / "reward.json").write_text(json.dumps(told | other))
        with pytest.raises(TrainError, match="is not the file of a tuned reward"):
            read_settings(tmp_path)
