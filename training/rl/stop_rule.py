"""A rule that ends a run in which the rewards it learns from rise and a held-out one falls: the policy cheats them.

Every reward's mean per step x is smoothed, and so is its noise (of `window` steps, α = 1 / window, in the first ones
1 / n):

    (1) m ← m + α (x - m),   s² ← s² + α ((x - m)² - s²), with m from before
    (2) e = s √(α / (2 - α)), the deviation that m has from noise alone

A held-out reward has fallen where its best m so far is more than fall · √2 · e above m, √2 as both have noise. The
trained ones have risen where Σ w (m - m then) / s > 0, then: at the step of that best. Both have to hold for some steps
in a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from reelwright.training.errors import StoppedByRule
from reelwright.training.rl.stop_settings import StopSettings


class StopRule:
    """The rule and its state, float64 [2, n]: before and after the last step that it was shown.

    A step that is shown again, as a run does that was ended in the midst of it, counts once.
    """

    def __init__(self, settings: StopSettings, weights: Mapping[str, float], held_out: Sequence[str]) -> None:
        """Take the weights of the trained rewards by label, and the labels of the held-out ones."""
        self.settings, self.weights, self.held_out = settings, dict(weights), list(held_out)
        every, trained, held = len(weights) + len(held_out), len(weights), len(held_out)
        sizes = [every, every, every, held, held, held, held * trained]
        self.seen = torch.full((1,), -1, dtype=torch.int64)
        self.state = torch.zeros(2, sum(sizes), dtype=torch.float64)
        parts = self.state[1].split(sizes)
        self.mean, self.variance, self.count, self.best, self.best_step, self.bad = parts[:6]
        self.then = parts[6].view(held, trained)

    def tensors(self) -> dict[str, Tensor]:
        """Return the state, to be saved and filled in place."""
        return {"stop.state": self.state, "stop.seen": self.seen}

    def observe(self, step: int, figures: Mapping[str, float]) -> None:
        """Take the rewards of a step.

        Args:
            step: from 0.
            figures: by `reward/LABEL` and `held_out/LABEL`; a reward without a finite one is as it was.

        Raises:
            StoppedByRule: the rule holds.
        """
        if int(self.seen) == step:
            self.state[1] = self.state[0]
        self.state[0], self.seen[0] = self.state[1].clone(), step
        names = [*(f"reward/{label}" for label in self.weights), *(f"held_out/{label}" for label in self.held_out)]
        values = torch.tensor([figures.get(name, float("nan")) for name in names], dtype=torch.float64)
        self._smooth(values)
        for h in range(len(self.held_out)):
            if self._has_fallen(h, step):
                raise StoppedByRule(self._sentence(h, step))

    def _smooth(self, values: Tensor) -> None:
        there = values.isfinite()
        away = torch.where(there, values - self.mean, 0.0)
        self.count += there
        alpha = torch.where(there, 1 / self.count.clamp(1, self.settings.window), 0.0)
        self.variance += alpha * torch.where(self.count > 1, away.square() - self.variance, 0.0)
        self.mean += alpha * away

    def _has_fallen(self, h: int, step: int) -> bool:
        settings, trained = self.settings, len(self.weights)
        k = trained + h
        if not settings.fall or self.count[k] < settings.window:
            return False
        if self.count[k] == settings.window or self.mean[k] > self.best[h]:
            self.best[h], self.best_step[h], self.then[h] = self.mean[k], step, self.mean[:trained]
        alpha = 1 / settings.window
        noise = (self.variance[k] * alpha / (2 - alpha)).sqrt()
        fallen = self.best[h] - self.mean[k] > settings.fall * 2**0.5 * noise
        size = self.variance[:trained].sqrt().clamp_min(1e-12)
        rise = (torch.tensor(list(self.weights.values())) * (self.mean[:trained] - self.then[h]) / size).sum()
        self.bad[h] = self.bad[h] + 1 if fallen and rise > 0 else 0
        return bool(self.bad[h] >= settings.patience)

    def _sentence(self, h: int, step: int) -> str:
        rising = [
            f"{label} {before:.4g} → {now:.4g}"
            for label, before, now in zip(self.weights, self.then[h].tolist(), self.mean.tolist(), strict=False)
        ]
        label, best, at = self.held_out[h], float(self.best[h]), int(self.best_step[h]) + 1
        return (
            f"the held-out reward {label!r} has fallen from {best:.4g} at step {at} to "
            f"{float(self.mean[len(self.weights) + h]):.4g} at step {step + 1}, while the trained rewards rose "
            f"({', '.join(rising)}): the policy cheats them. Take a checkpoint from about step {at}, change the "
            "rewards, or go on with a larger objective.stop.fall (0: never stop)"
        )
