"""Advantages: by hand, with failed scores, with a noisy group, and however the samples lie."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reelwright.training.rl.advantages import EPS, Advantages, advantages


def of(scores: Sequence[Sequence[float | None]], groups: list[int], weights: list[float], **more: Any) -> Advantages:
    """Scores per sample and reward; None: failed."""
    scored = torch.tensor([[s is not None for s in row] for row in scores])
    filled = torch.tensor([[0.0 if s is None else s for s in row] for row in scores], dtype=torch.float64)
    return advantages(torch.tensor(groups), filled, scored, weights, **more)


def test_two_groups_share_the_larger_deviation() -> None:
    found = of([[0.0], [2.0], [10.0], [10.2]], [0, 0, 1, 1], [1.0])
    assert found.means[:, 0].tolist() == pytest.approx([1.0, 10.1])
    assert found.stds[:, 0].tolist() == pytest.approx([1.0, 0.1])  # population: half the difference of two
    assert found.largest.tolist() == pytest.approx([1.0])
    assert found.values.tolist() == pytest.approx([-1.0, 1.0, -0.1, 0.1], rel=2e-4)
    own = of([[0.0], [2.0], [10.0], [10.2]], [0, 0, 1, 1], [1.0], scale="group")
    assert own.values.tolist() == pytest.approx([-1.0, 1.0, -1.0, 1.0], rel=2e-3)


def test_a_group_of_noise_hardly_counts_beside_one_that_differs() -> None:
    found = of([[3.0], [3.001], [0.0], [8.0]], [0, 0, 1, 1], [1.0])
    assert found.values[:2].abs().max() < 1e-3
    assert found.values[2:].tolist() == pytest.approx([-1, 1], rel=1e-3)


def test_rewards_are_scaled_each_by_its_own_and_summed_by_weight() -> None:
    scores = [[0.0, 100.0], [1.0, 300.0], [0.0, 0.0], [0.0, 50.0]]
    found = of(scores, [0, 0, 1, 1], [1.0, 0.5], eps=0.0)
    assert found.largest.tolist() == pytest.approx([0.5, 100.0])
    assert found.values.tolist() == pytest.approx([-1.5, 1.5, -0.125, 0.125])
    assert of(scores, [0, 0, 1, 1], [1.0, 0.0], eps=0.0).values.tolist() == pytest.approx([-1, 1, 0, 0])


def test_a_failed_score_is_no_zero() -> None:
    found = of([[5.0], [None], [7.0]], [0, 0, 0], [1.0], eps=0.0)
    assert found.values.tolist() == pytest.approx([-1, 0, 1])  # with a zero in its place: 0.34, -1.36, 1.02
    assert not found.left_out.any()


def test_a_failure_in_one_reward_leaves_the_other_of_the_sample() -> None:
    found = of([[5.0, 0.0], [None, 4.0], [7.0, 2.0]], [0, 0, 0], [1.0, 1.0], eps=0.0)
    second = np.array([0.0, 4.0, 2.0])
    second = (second - second.mean()) / second.std()
    assert found.values.tolist() == pytest.approx([second[0] - 1, second[1], second[2] + 1])


def test_a_group_with_fewer_than_two_scores_gives_nothing_for_that_reward() -> None:
    found = of([[5.0], [None], [1.0], [3.0], [None], [None]], [0, 0, 1, 1, 2, 2], [1.0], eps=0.0)
    assert found.values.tolist() == pytest.approx([0, 0, -1, 1, 0, 0])
    assert found.left_out[:, 0].tolist() == [True, False, True]
    assert found.means[:2, 0].tolist() == [5.0, 2.0]
    assert found.means[2, 0].isnan()


def test_where_nothing_differs_or_all_failed_advantages_are_0() -> None:
    for scores in ([[2.0], [2.0], [5.0], [5.0]], [[None]] * 4):
        found = of(scores, [0, 0, 1, 1], [1.0])
        assert found.values.tolist() == [0, 0, 0, 0]
        assert of(scores, [0, 0, 1, 1], [1.0], scale="group").values.tolist() == [0, 0, 0, 0]


def test_the_clip_cuts_and_says_how_many() -> None:
    scores = [[0.0], [0.0], [0.0], [8.0]]
    free, cut = of(scores, [0] * 4, [1.0]), of(scores, [0] * 4, [1.0], clip=1.0)
    assert free.values[3].item() > 1
    assert free.clipped == 0
    assert cut.values.tolist() == pytest.approx([*free.values[:3].tolist(), 1.0])
    assert cut.clipped == 0.25


@given(st.data())
def test_the_order_of_samples_and_the_names_of_groups_do_not_matter(data: st.DataObject) -> None:
    """So it does not matter which ranks have the samples of a group."""
    size, groups = data.draw(st.integers(2, 5)), data.draw(st.integers(1, 5))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    ids = np.repeat(np.arange(groups), size)
    scores, scored = torch.tensor(rng.normal(size=(len(ids), 2))), torch.tensor(rng.random((len(ids), 2)) > 0.3)
    found = advantages(torch.tensor(ids), scores, scored, [1.0, 2.0])
    order = torch.tensor(rng.permutation(len(ids)))
    names = torch.tensor(rng.permutation(1000)[:groups])
    other = advantages(names[torch.tensor(ids)][order], scores[order], scored[order], [1.0, 2.0])
    torch.testing.assert_close(other.values, found.values[order])
    for k in range(2):
        own = [np.array(scores[ids == g, k])[np.array(scored[ids == g, k])] for g in range(groups)]
        largest = max((part.std() for part in own if len(part) > 1), default=0.0)
        assert found.largest[k].item() == pytest.approx(largest)
        for g, part in enumerate(own):
            if len(part) > 1:
                only = advantages(torch.tensor(ids), scores[:, k : k + 1], scored[:, k : k + 1], [1.0]).values
                here = only[torch.tensor(ids == g) & scored[:, k]]
                assert here.tolist() == pytest.approx((part - part.mean()) / (largest + EPS))
                assert here.sum().item() == pytest.approx(0, abs=1e-9)
