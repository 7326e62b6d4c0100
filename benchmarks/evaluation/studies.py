"""Simulated studies: known worth, noisy raters, ties; whether the statistics find what is true."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reelwright.evaluation.statistics.bootstrap import Interval, Resamples, compare, mean_interval
from reelwright.evaluation.statistics.pairs import davidson

MODELS = ("a", "b", "c", "d")
WORTH = np.array([2.7, 3.0, 3.4, 3.6])
"""Mean score of each model's videos before it is cut to the scale."""
STRENGTHS = np.array([0.0, 0.4, 0.9, 1.2])
"""log π of each model."""
NU = 0.9
DRAWS = 1000
FEW = 8


@dataclass
class Coverage:
    """Counts over repeats."""

    held: int = 0
    intervals: int = 0
    ordered: int = 0
    repeats: int = 0
    width: float = 0.0

    def add(self, interval: Interval, truth: float) -> None:
        self.held += interval.low <= truth <= interval.high
        self.intervals += 1
        self.width += interval.high - interval.low

    def figures(self, name: str) -> dict[str, float]:
        return {
            f"{name}_covered": self.held / self.intervals,
            f"{name}_width": self.width / self.intervals,
            **({"in_order": self.ordered / self.repeats} if self.repeats else {}),
        }


def scores(
    rng: np.random.Generator, prompts: int, pool: int | None = None, raters: int = 3, extra: int = 2
) -> np.ndarray:
    """One MOS study: each video's mean over its raters, [prompts, models].

    A score is rounded and cut to 1 to 5. Prompts are hard or easy for all models, videos better or worse than their
    model, raters strict or mild, and each answer noisy. Where three raters are 2 points apart, two more answer. pool:
    raters of the whole study; None: each answer is of another one.
    """
    prompt = rng.normal(0, 0.4, (prompts, 1, 1))
    video = rng.normal(0, 0.4, (prompts, len(MODELS), 1))
    if pool is None:
        rater = rng.normal(0, 0.3, (prompts, len(MODELS), raters + extra))
    else:
        who = rng.random((prompts, len(MODELS), pool)).argsort(axis=2)[..., : raters + extra]
        rater = rng.normal(0, 0.3, pool)[who]
    noise = rng.normal(0, 0.6, (prompts, len(MODELS), raters + extra))
    given = np.clip(np.round(WORTH[:, None] + prompt + video + rater + noise), 1, 5)
    far = np.ptp(given[..., :raters], axis=2) >= 2
    few, many = given[..., :raters].mean(axis=2), given.mean(axis=2)
    return np.where(far, many, few)


def true_means() -> np.ndarray:
    """Means of a video's score over all prompts, videos, raters and answers, by a large sample."""
    rng = np.random.default_rng(99)
    return np.mean([scores(rng, 2_000).mean(axis=0) for _ in range(150)], axis=0)


def measure_mos(repeats: int, prompts: int) -> dict[str, float]:
    """Coverage of means and of paired differences, and how often the order is found; also with 8 raters in all."""
    truth = true_means()
    few = {f"few_raters_{name}": value for name, value in _mos(repeats, prompts, FEW, truth).items()}
    return _mos(repeats, prompts, None, truth) | few


def _mos(repeats: int, prompts: int, pool: int | None, truth: np.ndarray) -> dict[str, float]:
    means, differences = Coverage(), Coverage()
    for repeat in range(repeats):
        found = scores(np.random.default_rng([1, repeat]), prompts, pool)
        counts = np.ones_like(found)
        draws = Resamples(prompts, DRAWS, repeat)
        both = compare(found, counts, draws)
        for i, interval in enumerate(both.means):
            means.add(interval, truth[i])
        for (i, j), interval in both.differences.items():
            differences.add(interval, truth[i] - truth[j])
        means.ordered += list(np.argsort(found.mean(axis=0))) == list(np.argsort(truth))
        means.repeats += 1
    return means.figures("mean") | differences.figures("difference")


def votes(rng: np.random.Generator, prompts: int, raters: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """One study of pairs: wins and ties by prompt, drawn from Davidson's model, all pairs of models of each prompt."""
    size = (prompts, len(MODELS), len(MODELS))
    wins, ties = np.zeros(size), np.zeros(size)
    for i in range(len(MODELS)):
        for j in range(i + 1, len(MODELS)):
            odds = np.exp([STRENGTHS[i], STRENGTHS[j], np.log(NU) + (STRENGTHS[i] + STRENGTHS[j]) / 2])
            drawn = rng.multinomial(raters, odds / odds.sum(), size=prompts)
            wins[:, i, j], wins[:, j, i], ties[:, i, j] = drawn.T
            ties[:, j, i] = ties[:, i, j]
    return wins, ties


def measure_pairs(repeats: int, prompts: int) -> dict[str, float]:
    """Coverage of Davidson's strengths and of GSB, and how often the order is found."""
    strengths, gsb = Coverage(), Coverage()
    for repeat in range(repeats):
        wins, ties = votes(np.random.default_rng([2, repeat]), prompts)
        draws = Resamples(prompts, DRAWS, repeat)
        found = davidson(MODELS, wins, ties, draws).strengths
        for i, model in enumerate(MODELS[1:], 1):
            strengths.add(found[model], STRENGTHS[i])
            odds = np.exp([STRENGTHS[0], STRENGTHS[i], np.log(NU) + (STRENGTHS[0] + STRENGTHS[i]) / 2])
            good, bad, number = wins[:, i, 0], wins[:, 0, i], wins[:, i, 0] + wins[:, 0, i] + ties[:, i, 0]
            gsb.add(mean_interval(good - bad, number, draws), float((odds[1] - odds[0]) / odds.sum()))
        strengths.ordered += [m for m, _ in sorted(found.items(), key=lambda one: one[1].value)] == list(MODELS)
        strengths.repeats += 1
    return strengths.figures("strength") | gsb.figures("gsb")
