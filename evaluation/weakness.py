"""Categories of a suite that a model is weak in: below the others by more than the choice of prompts explains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reelwright.evaluation.statistics.bootstrap import Interval, Resamples, mean_interval, percentile_interval

FEW_PROMPTS = 3
"""Below so many, a category is compared and never called weak."""
LEVEL = 0.95


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
        gap: its mean less that of all other categories; the interval holds the bootstrap's and Student's.
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
        return not self.has_few and self.gap.high < 0

    @property
    def has_few(self) -> bool:
        """Whether its prompts are too few to call it weak."""
        return len(self.prompts) < FEW_PROMPTS


def category_scores(scored: Sequence[Scored], *, seed: int = 0) -> list[CategoryScore]:
    """Compare each category with all others, the weakest first. Intervals are by bootstrap over prompts.

    A bootstrap of three or four prompts is too narrow: where all categories are alike, it is clear of 0 on the weak
    side in a tenth of cases instead of a fortieth. So a gap's interval is widened to Student's, over prompts, whose
    variance is pooled over the categories.

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
    spread = _Spread.of(sums / counts, names)
    failed = {name: sum(s.value is None for s in scored if s.category == name) for name in np.unique(names)}

    def score(name: str) -> CategoryScore:
        own = names == name
        order = np.flatnonzero(own)[np.argsort((sums / counts)[own], kind="stable")]
        both = [np.where(mask, values, 0.0) for values in (sums, counts) for mask in (own, ~own)]
        draws = resamples.means(np.stack(both[:2], 1), np.stack(both[2:], 1))
        here = sums[own].sum() / counts[own].sum()
        there = sums[~own].sum() / counts[~own].sum() if not own.all() else float("nan")
        gap = spread.widen(percentile_interval(here - there, draws[:, 0] - draws[:, 1]), int(own.sum()))
        mean = mean_interval(both[0], both[2], resamples)
        return CategoryScore(str(name), mean, gap, [texts[i] for i in order], failed[name])

    return sorted((score(name) for name in np.unique(names)), key=lambda one: (one.mean.value, one.name))


@dataclass(frozen=True)
class _Spread:
    """Deviation of prompts within their categories. free: degrees of freedom; 0 where no category has two prompts."""

    deviation: float
    free: int
    prompts: int

    @classmethod
    def of(cls, means: np.ndarray, names: np.ndarray) -> _Spread:
        free = len(means) - len(np.unique(names))
        squares = sum(float(((means[names == n] - means[names == n].mean()) ** 2).sum()) for n in np.unique(names))
        return cls(float(np.sqrt(squares / free)) if free else 0.0, free, len(means))

    def widen(self, gap: Interval, own: int) -> Interval:
        """Return the interval of a category's gap, at least as wide as Student's. own: prompts of the category."""
        from scipy.special import stdtrit

        if not self.free or own == self.prompts:
            return gap
        error = self.deviation * np.sqrt(1 / own + 1 / (self.prompts - own))
        half = float(stdtrit(self.free, (1 + LEVEL) / 2) * error)
        return Interval(gap.value, min(gap.low, gap.value - half), max(gap.high, gap.value + half))
