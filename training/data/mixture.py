"""What steps are made of: bands of clips that cost about the same, and how many pictures go beside them.

Sharded ranks wait for the costliest of the micro-batches that are computed side by side, and the same tokens cost up to
four times as much in a long clip as in pictures. So a step takes clips of one band: buckets whose full micro-batches
cost about the same. Where clips are trained on, pictures are a few micro-batches of each step, of one of two sizes, so
that a step can have the pictures that it is owed, whatever its band, and the shapes that a network meets are few.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

BAND = 0.03
"""Micro-batches cost at most this share less than their band's costliest, tasks and left-overs apart."""
WINDOW = 64
"""Micro-batches in which pictures hold their share: those of a step, or of several steps that have fewer."""
RARE = 0.02
"""Bands of a smaller share of the samples have no say in the sizes of pictures' micro-batches."""
SLACK = 0.02
"""What blocks of draws may have more or fewer pictures than is expected of them, and still do with the same sizes."""
CHOICES = 4
"""Numbers of micro-batches of pictures that are looked at per band, from the fewest on."""


@dataclass(frozen=True)
class Mixture:
    """What steps are made of, from what is to be expected of the draws.

    band: int [buckets], band of each bucket of the main tasks, -1 for none; 0 is the costliest. size: int [buckets],
    samples of a full micro-batch of a main task. is_side: bool [tasks], whether a task's micro-batches go into the
    steps of all bands (pictures beside clips). sides: samples of a micro-batch of a side task, two numbers, rising;
    none where no task is one. most: int [bands], samples that such a micro-batch may have beside a band's clips, or all
    ranks would wait for it.
    """

    band: np.ndarray
    size: np.ndarray
    is_side: np.ndarray
    sides: tuple[int, ...]
    most: np.ndarray

    @property
    def bands(self) -> int:
        """Number of bands of cost. It is also the band that a side task's group has."""
        return len(self.most)

    def groups(self, bucket: np.ndarray, task: np.ndarray) -> np.ndarray:
        """Return the group of each draw: (band · buckets + bucket) · tasks + task."""
        band = np.where(self.is_side[task], self.bands, self.band[bucket])
        return (band * len(self.band) + bucket) * len(self.is_side) + task

    def split(self, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (band, bucket, task) of groups."""
        rest, task = np.divmod(groups, len(self.is_side))
        band, bucket = np.divmod(rest, len(self.band))
        return band, bucket, task


def mixture(expected: np.ndarray, is_still: np.ndarray, capacity: np.ndarray, cost: np.ndarray, step: int) -> Mixture:
    """Decide what steps are made of.

    Args:
        expected: float [buckets, tasks], draws per pass.
        is_still: bool [tasks], whether a task draws pictures.
        capacity: int [buckets], samples of a micro-batch, at most.
        cost: [buckets], of a micro-batch of that many.
        step: micro-batches per step.
    """
    is_side = is_still & (expected[:, ~is_still].sum() > 0)
    main, beside = expected[:, ~is_side].sum(1), expected[:, is_side].sum(1)
    band = _bands(cost, main > 0)
    used, bands = main > 0, int(band.max()) + 1
    if not is_side.any():
        return Mixture(band, capacity, is_side, (), np.zeros(bands, int))
    samples, batches = (np.bincount(band[used], of[used], bands) for of in (main, main / capacity))
    most = np.ones(bands, int)
    if (beside > 0).any():
        tops = np.array([cost[band == k].max() for k in range(bands)])
        most = np.minimum(capacity, tops[:, None] * capacity // cost)[:, beside > 0].min(1).clip(1).astype(int)
    common = np.flatnonzero(samples >= RARE * samples.sum()).tolist()
    window, ratio = max(step, WINDOW), float(beside.sum() / main.sum())
    choices = [list(_choices(ratio, float(samples[k] / batches[k]), window, int(most[k]))) for k in common]
    sides = _two_sizes(choices, batches[common] / batches[common].sum(), int(most.max()))
    return Mixture(band, capacity, is_side, sides, most)


def _bands(cost: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Band of each used bucket, from the costliest down."""
    band, number, top = np.full(len(cost), -1), -1, np.inf
    for i in np.argsort(-cost, kind="stable").tolist():
        if used[i]:
            if cost[i] < (1 - BAND) * top or number < 0:
                number, top = number + 1, cost[i]
            band[i] = number
    return band


@dataclass(frozen=True)
class _Choice:
    """A size of micro-batches of pictures that gives a band's steps their share of them.

    idle: share of a step's time that they leave unused, as they cost less than the clips. samples: of a step.
    """

    size: float
    idle: float
    samples: float


def _choices(beside: float, clips: float, window: int, most: int) -> Iterator[_Choice]:
    """Yield what 1, 2, … micro-batches of pictures in a window must hold, the fewest first.

    beside: pictures per clip. clips: of a micro-batch. most: that fit.
    """
    sizes = {places: beside * (window - places) * clips / places for places in range(1, window)}
    fitting = [places for places, size in sizes.items() if size <= most]
    for places in fitting[:CHOICES]:
        samples = clips * (window - places) * (1 + beside)
        yield _Choice(sizes[places], places * (1 - sizes[places] / most) / window, samples)
    if not fitting:
        yield _Choice(most, 0.0, clips * window)


def _two_sizes(choices: list[list[_Choice]], often: np.ndarray, most: int) -> tuple[int, int]:
    """Return the sizes between which a choice of every band lies, so that least is idle and shares are least off.

    often: float [bands], a band's share of the steps. most: that either may be.
    """
    best = (np.inf, 1.0, 1.0)
    for low in sorted({choice.size for of in choices for choice in of}, reverse=True):
        chosen = [min((c for c in of if c.size >= low), key=lambda c: c.size, default=None) for of in choices]
        if found := [c for c in chosen if c is not None] if None not in chosen else []:
            high = max(c.size for c in found)
            off = max((high - low) / c.samples for c in found) / 2
            idle = float(np.dot([c.idle for c in found], often))
            best = min(best, (off + idle, low, high))
    low, high = int(best[1] * (1 - SLACK)), int(np.ceil(best[2] * (1 + SLACK)))
    return max(1, min(low, most)), max(1, min(max(high, low + 1), most))
