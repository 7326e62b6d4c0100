"""Strengths from pairs with ties, against closed forms and scipy's optimum of the likelihood written out."""

import numpy as np
import pytest
from scipy.optimize import minimize, root

from reelwright.errors import UserError
from reelwright.evaluation.statistics.bootstrap import Resamples
from reelwright.evaluation.statistics.pairs import Gsb, davidson, fit, refuse_unconnected


def test_two_models_by_hand() -> None:
    """The greatest likelihood of two models gives each outcome its share: π_a/π_b = 12/3, ν = 6/√(12 · 3) = 1."""
    wins = np.array([[[0, 12], [3, 0]]])
    ties = np.array([[[0, 6], [6, 0]]])
    strengths, nu = fit(wins, ties)
    assert strengths[0] == pytest.approx([0, np.log(3 / 12)], abs=1e-9)
    assert nu[0] == pytest.approx(1.0, abs=1e-9)


def log_likelihood(beta: np.ndarray, wins: np.ndarray, ties: np.ndarray) -> complex:
    """Davidson's, written out pair by pair; beta: log π but the first, log ν."""
    pi, nu = np.exp(np.concatenate([[0.0], beta[:-1]])), np.exp(beta[-1])
    total: complex = 0.0
    for i in range(len(pi)):
        for j in range(i + 1, len(pi)):
            tie = nu * np.sqrt(pi[i] * pi[j])
            whole = pi[i] + pi[j] + tie
            total += wins[i, j] * np.log(pi[i] / whole) + wins[j, i] * np.log(pi[j] / whole)
            total += ties[i, j] * np.log(tie / whole)
    return total


def test_several_models_at_scipy_s_optimum() -> None:
    rng = np.random.default_rng(4)
    wins = rng.integers(1, 30, (4, 4)) * (1 - np.eye(4, dtype=int))
    ties = np.triu(rng.integers(0, 20, (4, 4)), 1)
    ties = ties + ties.T
    strengths, nu = fit(wins[None], ties[None])

    def slope(beta: np.ndarray) -> np.ndarray:
        """Complex step: exact to rounding."""
        return np.array([log_likelihood(beta + 1e-30j * e, wins, ties).imag / 1e-30 for e in np.eye(4)])

    start = minimize(lambda beta: -float(np.real(log_likelihood(beta, wins, ties))), np.zeros(4)).x
    theirs = root(slope, start, tol=1e-13)
    assert strengths[0, 1:] == pytest.approx(theirs.x[:-1], abs=1e-9)
    assert np.log(nu[0]) == pytest.approx(theirs.x[-1], abs=1e-9)


def test_sets_are_fitted_each_for_itself() -> None:
    """One without ties is Bradley and Terry's, for a chain the product of its odds; one is lopsided."""
    chain = np.array([[0, 6, 0], [2, 0, 8], [0, 2, 0]])
    none = np.zeros((3, 3), int)
    lopsided, one_tie = np.array([[0, 90, 1], [1, 0, 90], [1, 1, 0]]), np.zeros((3, 3), int)
    one_tie[0, 1] = one_tie[1, 0] = 1
    strengths, nu = fit(np.stack([chain, lopsided]), np.stack([none, one_tie]))
    assert strengths[0] == pytest.approx([0, np.log(2 / 6), np.log(2 / 6) + np.log(2 / 8)], abs=1e-9)
    assert nu[0] == 0
    alone, alone_nu = fit(lopsided[None], one_tie[None])
    assert strengths[1] == pytest.approx(alone[0], abs=1e-9)
    assert nu[1] == pytest.approx(alone_nu[0], abs=1e-9)


def test_intervals_are_of_prompts_and_say_how_many_draws_are_infinite() -> None:
    wins = np.zeros((20, 2, 2), int)
    ties = np.zeros((20, 2, 2), int)
    wins[:14, 0, 1] = 3
    wins[14:16, 1, 0] = 3
    ties[16:] = [[0, 3], [3, 0]]
    found = davidson(["a", "b"], wins, ties, Resamples(20, 400, 5))
    b = found.strengths["b"]
    assert b.value == pytest.approx(np.log(2 / 14), abs=1e-9)
    assert b.low < b.value < b.high < 0
    assert found.strengths["a"].value == found.strengths["a"].low == 0
    draws = Resamples(20, 400, 5).weights
    never = draws[:, 14:16].sum(axis=1) == 0  # nothing contradicts that a is better: ties fit it with a large ν
    assert 0 < found.infinite == never.mean()


def test_models_that_no_answer_connects_are_refused() -> None:
    wins = np.array([[0, 5, 5], [0, 0, 3], [0, 4, 0]])
    with pytest.raises(UserError, match=r"'b' level with or over 'a'"):
        refuse_unconnected(["a", "b", "c"], wins, np.zeros((3, 3)))
    tie = np.zeros((3, 3))
    tie[0, 2] = tie[2, 0] = 1
    refuse_unconnected(["a", "b", "c"], wins, tie)
    for one_sided in (np.array([[0, 9], [0, 0]]), np.zeros((2, 2))):
        with pytest.raises(UserError, match="contradict one another so little"):
            refuse_unconnected(["a", "b"], one_sided, np.array([[0, 4], [4, 0]]))
    circle = np.array([[0, 3, 0], [0, 0, 3], [3, 0, 0]])
    refuse_unconnected(["a", "b", "c"], circle, 9 * (1 - np.eye(3)))
    apart = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]])
    with pytest.raises(UserError, match="'a' level with or over 'c'"):
        refuse_unconnected(["a", "b", "c", "d"], apart, np.zeros((4, 4)))


def test_gsb_by_hand_and_as_a_variance_of_answers() -> None:
    """(50 − 30) / 100 = 0.2; ((80/100) − 0.04) / 100 = 0.0076: numpy's variance of the 100 answers over 100."""
    gsb = Gsb(50, 20, 30)
    assert gsb.value == pytest.approx(0.2, abs=1e-12)
    answers = np.repeat([1.0, 0.0, -1.0], [50, 20, 30])
    assert gsb.variance == pytest.approx(0.0076, abs=1e-12) == answers.var() / 100
    assert gsb.number == 100
    assert np.isnan(Gsb(0, 0, 0).value)
