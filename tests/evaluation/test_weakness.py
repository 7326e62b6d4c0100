"""Weak categories: below the others by more than the choice of prompts explains; failures count as the worst."""

import numpy as np
import pytest

from reelwright.evaluation.suites.files import load_suite
from reelwright.evaluation.weakness import Scored, category_scores


def scored(values: dict[str, list[list[float | None]]]) -> list[Scored]:
    """category -> prompts -> the values of its generations."""
    return [
        Scored(category, f"{category}-{i}", f"{category} prompt {i}", value)
        for category, prompts in values.items()
        for i, own in enumerate(prompts)
        for value in own
    ]


def test_a_category_below_the_others_is_weak_and_the_gap_is_by_hand() -> None:
    rng = np.random.default_rng(0)
    values = {name: [[level + rng.normal(0, 0.1)] for _ in range(10)] for name, level in
              {"sea": 1.0, "city": 2.0, "forest": 2.0, "fields": 2.05}.items()}  # fmt: skip
    sea, *others = category_scores(scored(values))
    assert sea.name == "sea"
    assert sea.is_weak
    assert not any(one.is_weak for one in others)
    rest = np.mean([v for name, own in values.items() if name != "sea" for (v,) in own])
    assert sea.gap.value == pytest.approx(np.mean(values["sea"]) - rest)
    assert sea.gap.low < sea.gap.value < sea.gap.high < 0
    worst = min(range(10), key=lambda i: values["sea"][i][0])
    assert sea.prompts[0] == f"sea prompt {worst}"


def test_equal_categories_are_rarely_called_weak() -> None:
    called = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        values = {f"c{i}": [[float(rng.normal())] for _ in range(12)] for i in range(4)}
        called += sum(one.is_weak for one in category_scores(scored(values), seed=seed))
    assert called <= 0.1 * 160, "2.5 % of them are expected"


def test_equal_categories_of_three_prompts_are_rarely_called_weak_either() -> None:
    rng = np.random.default_rng(0)
    values = {f"c{i:03d}": [[float(rng.normal())] for _ in range(3)] for i in range(200)}
    called = sum(one.is_weak for one in category_scores(scored(values)))
    assert 1 <= called <= 12, "2.5 % are expected, and of the bootstrap alone 11 %"


def test_a_category_of_our_own_suite_can_be_called_weak() -> None:
    """One category at 0 and all others at 5."""
    ours = load_suite("ours").prompts
    values = [Scored(p.category, p.id, p.text, 0.0 if p.category == "portrait" else 5.0) for p in ours]
    found = category_scores(values)
    assert [one.name for one in found if one.is_weak] == ["portrait"]
    assert not any(one.has_few for one in found)


def test_a_generation_that_failed_counts_as_the_worst_of_all() -> None:
    values = {"a": [[1.0, None], [2.0, 2.0], [2.0, 2.0]], "b": [[3.0, 3.0]] * 3}
    a, _ = category_scores(scored(values))
    assert (a.name, a.failed) == ("a", 1)
    assert a.mean.value == pytest.approx((1 + 1 + 8) / 6)
    with pytest.raises(ValueError, match="no generation has a value"):
        category_scores(scored({"a": [[None]]}))


def test_two_prompts_make_no_category_weak() -> None:
    values = {"a": [[0.0], [0.0]], "b": [[3.0]] * 9}
    found = category_scores(scored(values))
    assert not found[0].is_weak
    assert [one.has_few for one in found] == [True, False]
