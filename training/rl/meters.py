"""Figures of an objective on rollouts, over micro-batches, steps and ranks."""

from torch import Tensor

from reelwright.training.distributed.world import World
from reelwright.training.rl.batch import RolloutBatch
from reelwright.training.rl.figures import averaged


class Meters:
    """Means, and the largest, of what the trained passes gave, and of what the rollouts of their steps did."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._largest: dict[str, Tensor] = {}
        self._figures: dict[int, dict[str, float]] = {}

    def add(self, batch: RolloutBatch, **values: Tensor) -> None:
        """Count what a batch gave, and keep the figures of its step; a rehearsal's do not count.

        Sums stay on the device until `read`.
        """
        if batch.step < 0:
            return
        self._figures[batch.step] = batch.figures
        for name, value in values.items():
            total = value.detach().double().sum()
            self._sums[name] = self._sums[name] + total if name in self._sums else total
            self._counts[name] = self._counts.get(name, 0) + value.numel()

    def add_largest(self, batch: RolloutBatch, **values: Tensor) -> None:
        """Count values, from 0 up, of which the largest is told and not the mean."""
        if batch.step < 0:
            return
        for name, value in values.items():
            most = value.detach().double().max()
            self._largest[name] = self._largest[name].maximum(most) if name in self._largest else most

    def read(self) -> dict[str, float]:
        """Return the figures over all ranks since the last call. Every rank calls it, having added the same names."""
        names = list(self._sums)
        sums = [float(self._sums[name]) for name in names]
        found = self.world.sum([*sums, *(float(self._counts[name]) for name in names)])
        means = {n: s / c for n, s, c in zip(names, found, found[len(names) :], strict=False) if c}
        most = self.world.max([float(value) for value in self._largest.values()]) if self._largest else []
        out = means | dict(zip(self._largest, most, strict=True)) | averaged(list(self._figures.values()))
        self._sums, self._counts, self._largest, self._figures = {}, {}, {}, {}
        return out
