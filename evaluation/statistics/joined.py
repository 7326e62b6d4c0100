"""One figure from people and a judge, as the report joins them: 2 parts people, 1 part judge."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from reelwright.evaluation.statistics.bootstrap import LEVEL, Interval

HUMAN, JUDGE = 2, 1
"""Parts (report, 5.1)."""


@dataclass(frozen=True)
class Estimate:
    """A mean and the variance of that mean."""

    value: float
    variance: float

    def interval(self, level: float = LEVEL) -> Interval:
        """Return the normal interval."""
        half = NormalDist().inv_cdf((1 + level) / 2) * math.sqrt(self.variance)
        return Interval(self.value, self.value - half, self.value + half)


def human_and_judge(human: Estimate, judge: Estimate) -> Estimate:
    """Return (2 · human + judge) / 3 with variance (4 · Var_h + Var_a) / 9.

    The two sets of prompts are disjoint in the report (500 and 728), so their errors do not depend on one another; on
    shared prompts they may, and the variance is then a lower bound where both err alike.
    """
    parts = HUMAN + JUDGE
    value = (HUMAN * human.value + JUDGE * judge.value) / parts
    return Estimate(value, (HUMAN**2 * human.variance + JUDGE**2 * judge.variance) / parts**2)
