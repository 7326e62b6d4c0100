"""Categories of a suite that a model is weak in: below the others by more than the choice of prompts explains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reelwright.evaluation.statistics.bootstrap import Interval, Resamples, mean_interval, percentile_interval

FEW_PROMPTS = 3
"""Below so many, a category is compared and never called weak."""


@dataclass(frozen=True)
class Scored:
    """One generation. value: higher is better; None where it failed, which counts as the worst value of all."""

    category: str
    prompt_id: str
    prompt: str
    value: float | None


@dataclass(frozen=True)
class CategoryScore:
    """A category of the suite.

    Attributes:
        mean: of its generations.
        gap: its mean less that of all other categories.
        prompts: texts, the weakest first.
        failed: generations that failed.
    """

    name: str
    mean: Interval
    gap: Interval
    prompts: list[str]
    failed: int

    @property
    def is_weak(self) -> bool:
        """Whether it lies below the others, the interval clear of 0, over enough prompts."""
        return len(self.prompts) >= FEW_PROMPTS and self.gap.high < 0


def category_scores(scored: Sequence[Scored], *, seed: int = 0) -> list[CategoryScore]:
    """Compare each category with all others, the weakest first. Intervals are by bootstrap over prompts.

    Args:
        scored: generations of one model.
        seed: of the bootstrap.

    Raises:
        ValueError: no generation has a value.
    """
    known = [one.value for one in scored if one.value is not None]
    if not known:
        raise ValueError("no generation has a value")
    worst = min(known)
    prompts = sorted({(one.category, one.prompt_id) for one in scored})
    place = {prompt: i for i, prompt in enumerate(prompts)}
    sums, counts, texts = np.zeros(len(prompts)), np.zeros(len(prompts)), [""] * len(prompts)
    for one in scored:
        i = place[one.category, one.prompt_id]
        sums[i] += worst if one.value is None else one.value
        counts[i] += 1
        texts[i] = one.prompt
    names = np.array([category for category, _ in prompts])
    resamples = Resamples(len(prompts), seed=seed)
    failed = {name: sum(s.value is None for s in scored if s.category == name) for name in np.unique(names)}

    def score(name: str) -> CategoryScore:
        own = names == name
        order = np.flatnonzero(own)[np.argsort((sums / counts)[own], kind="stable")]
        both = [np.where(mask, values, 0.0) for values in (sums, counts) for mask in (own, ~own)]
        draws = resamples.means(np.stack(both[:2], 1), np.stack(both[2:], 1))
        here = sums[own].sum() / counts[own].sum()
        there = sums[~own].sum() / counts[~own].sum() if not own.all() else float("nan")
        return CategoryScore(
            str(name), mean_interval(both[0], both[2], resamples),
            percentile_interval(here - there, draws[:, 0] - draws[:, 1]), [texts[i] for i in order], failed[name],
        )  # fmt: skip

    return sorted((score(name) for name in np.unique(names)), key=lambda one: (one.mean.value, one.name))
