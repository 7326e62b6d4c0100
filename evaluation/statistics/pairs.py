"""Strengths of models from pairs with ties: Davidson's model; and GSB, the plain difference of wins and losses.

P(i beats j) ∝ π_i, P(j beats i) ∝ π_j, P(tie) ∝ ν √(π_i π_j) (Davidson, "On Extending the Bradley-Terry Model to
Accommodate Ties in Paired Comparison Experiments", JASA 1970). In log π and log ν it is a logit model, so its
likelihood has one maximum, which Newton's method finds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reelwright.errors import UserError
from reelwright.evaluation.statistics.bootstrap import LEVEL, Interval, Resamples, percentile_interval

MAX_ITERATIONS = 200
MAX_STEP = 1.0  # of a logarithm in one iteration: a full step may overshoot from far away
TOLERANCE = 1e-11
RIDGE = 1e-4
"""Pull towards 0 in draws without a finite maximum: the interval's end then lies far out instead of nowhere."""


@dataclass(frozen=True)
class Strengths:
    """Davidson's model as fitted.

    Args:
        strengths: log π by model, against the first model, which has 0.
        nu: weight of ties; 0 where there are none.
        infinite: share of the draws without a finite maximum, pulled by `RIDGE`: ends that they decide are arbitrary
            but far out.
    """

    strengths: dict[str, Interval]
    nu: float
    infinite: float


def davidson(
    models: Sequence[str], wins: np.ndarray, ties: np.ndarray, resamples: Resamples, level: float = LEVEL
) -> Strengths:
    """Fit Davidson's model, with intervals over prompts.

    Args:
        models: their names.
        wins: answers by prompt in which the row's model was better, [prompts, models, models].
        ties: answers by prompt in which both were the same, [prompts, models, models], symmetric: each counted at
            [i, j] and [j, i].
        resamples: draws of as many prompts.
        level: share of draws inside.

    Raises:
        UserError: the answers do not connect all models, so that no finite strengths exist.
    """
    whole_wins, whole_ties = wins.sum(axis=0), ties.sum(axis=0)
    refuse_unconnected(models, whole_wins, whole_ties)
    fitted, nu = fit(whole_wins[None], whole_ties[None])
    shape = (resamples.count, len(models), len(models))
    drawn_wins, drawn_ties = (
        (resamples.weights @ x.reshape(len(x), -1).astype(float)).reshape(shape) for x in (wins, ties)
    )
    draws, _ = fit(drawn_wins, drawn_ties)
    strengths = {
        name: percentile_interval(float(fitted[0, i]), draws[:, i], level) for i, name in enumerate(models)
    }  # fmt: skip
    return Strengths(strengths, float(nu[0]), float((~_is_finite(drawn_wins, drawn_ties)).mean()))


def refuse_unconnected(models: Sequence[str], wins: np.ndarray, ties: np.ndarray) -> None:
    """Raise UserError if the likelihood has no finite maximum.

    It has one where each model is level with or over each other model, directly or by way of others (Ford, 1957), and
    where there are ties, some circle of answers has more wins than ties: otherwise all answers fit one order with ties
    between neighbours, and the fit improves for ever as differences and ν grow together.

    Args:
        models: their names.
        wins: of the row's model over the column's, [models, models].
        ties: symmetric, [models, models].
    """
    reach = _reach(wins[None], ties[None])[0]
    for i, j in zip(*np.nonzero(~reach), strict=True):
        raise UserError(
            f"no answer puts {models[i]!r} level with or over {models[j]!r}, nor over a model that is, so their "
            "strengths have no finite difference; rate more pairs or leave one of them out"
        )
    if not _is_finite(wins[None], ties[None])[0]:
        raise UserError(
            "the answers contradict one another so little that strengths and the weight of ties have no finite value; "
            "rate more pairs, or read GSB alone"
        )


def _reach(wins: np.ndarray, ties: np.ndarray) -> np.ndarray:
    reach = (wins + ties > 0) | np.eye(wins.shape[-1], dtype=bool)
    for _ in range(max(1, math.ceil(math.log2(wins.shape[-1])))):
        reach = np.matmul(reach.astype(float), reach.astype(float)) > 0
    return reach


def _is_finite(wins: np.ndarray, ties: np.ndarray) -> np.ndarray:
    """Whether each set's likelihood has a finite maximum, [sets].

    A direction (d, e) in (log π, log ν) along which the likelihood never falls needs d_i − d_j ≥ 2e for each win of i
    over j, and |d_i − d_j| ≤ 2e for each tie. With e > 0 there is none where a circle of the edges win −1, tie +1 is
    negative.
    """
    costs = np.where(wins > 0, -1.0, np.where(ties > 0, 1.0, np.inf))
    for k in range(wins.shape[-1]):
        costs = np.minimum(costs, costs[:, :, k, None] + costs[:, k, None, :])
    has_circle = np.diagonal(costs, axis1=1, axis2=2).min(axis=1) < 0
    has_ties = ties.max(axis=(1, 2)) > 0
    return np.logical_and(_reach(wins, ties).min(axis=(1, 2)), np.logical_or(has_circle, ~has_ties))


def fit(wins: np.ndarray, ties: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the strengths and ν of greatest likelihood for each of several sets of answers.

    Args:
        wins: of the row's model over the column's, [sets, models, models].
        ties: symmetric, [sets, models, models].

    Returns:
        Strengths, [sets, models], the first 0; ν, [sets].
    """
    sets, number = wins.shape[:2]
    i, j = np.triu_indices(number, 1)
    counts = np.stack([wins[:, i, j], wins[:, j, i], ties[:, i, j]], axis=-1).astype(float)  # [sets, pairs, 3]
    design = _design(number)
    has_ties = counts[..., 2].max(axis=1) > 0
    ridge = np.where(_is_finite(wins, ties), 0.0, RIDGE)
    beta = np.zeros((sets, number))
    for _ in range(MAX_ITERATIONS):
        gradient, hessian = _derivatives(beta, counts, design, has_ties)
        gradient -= ridge[:, None] * beta
        hessian += ridge[:, None, None] * np.eye(number)
        hessian[~has_ties, -1, -1] = 1.0  # without ties, ν is 0 and not fitted
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        beta += step / np.maximum(1.0, np.abs(step).max(axis=1, keepdims=True) / MAX_STEP)
        if np.abs(step).max() < TOLERANCE:
            break
    strengths = np.concatenate([np.zeros((sets, 1)), beta[:, :-1]], axis=1)
    return strengths, np.where(has_ties, np.exp(beta[:, -1]), 0.0)


def _design(models: int) -> np.ndarray:
    """Features of each pair's three outcomes, [pairs, 3, models]: strengths but the first, then log ν."""
    i, j = np.triu_indices(models, 1)
    design = np.zeros((len(i), 3, models + 1))
    pairs = np.arange(len(i))
    design[pairs, 0, i] = design[pairs, 1, j] = 1.0
    design[pairs, 2, i] = design[pairs, 2, j] = 0.5
    design[:, 2, -1] = 1.0
    return design[..., 1:]


def _derivatives(
    beta: np.ndarray, counts: np.ndarray, design: np.ndarray, has_ties: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient [sets, p] of the log-likelihood, and its negative Hessian [sets, p, p]."""
    logits = np.einsum("kcp,bp->bkc", design, beta)
    logits[~has_ties, :, 2] = -np.inf
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    chances = odds / odds.sum(axis=-1, keepdims=True)
    of_pair = counts.sum(axis=-1)
    gradient = np.einsum("bkc,kcp->bp", counts - of_pair[..., None] * chances, design)
    mean = np.einsum("bkc,kcp->bkp", chances, design)
    weighted = of_pair[..., None] * chances
    square = np.einsum("bkc,kcpq->bpq", weighted, design[..., :, None] * design[..., None, :])
    return gradient, square - np.einsum("bk,bkp,bkq->bpq", of_pair, mean, mean)


@dataclass(frozen=True)
class Gsb:
    """GSB = (G − B) / (G + S + B) of a pair of models. Some papers print (G + S) / (B + S): never mix the two.

    Args:
        good: answers in which the first was better.
        same: answers in which they were the same.
        bad: answers in which the other was better.
    """

    good: int
    same: int
    bad: int

    @property
    def number(self) -> int:
        """Answers."""
        return self.good + self.same + self.bad

    @property
    def value(self) -> float:
        """The difference of the shares of wins and losses, −1 to 1."""
        return (self.good - self.bad) / self.number if self.number else float("nan")

    @property
    def variance(self) -> float:
        """Of `value`, where answers do not depend on one another: ((G + B)/n − d²)/n."""
        return ((self.good + self.bad) / self.number - self.value**2) / self.number if self.number else float("nan")
