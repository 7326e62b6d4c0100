"""How draws become steps whose micro-batches cost about the same, each step with every task in its share.

Sharded ranks wait for the costliest of the micro-batches that are computed side by side, and the same tokens cost up to
four times as much in a long clip as in pictures. So a step takes clips of one band: buckets whose full micro-batches
cost about the same. Where clips are trained on, pictures are a few micro-batches of each step, of as many samples as
their task's share of the step asks for. Inside a band the tasks are spread evenly, and the bands over the run.

A micro-batch is full wherever a block of draws has enough of its kind, so the shapes that a network meets are few, and
known before the first draw. What is left over of each kind is put together into a few mixed steps per block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from reelwright.training.data.draws import SIDE, SPREAD, key_of, uniform
from reelwright.training.data.mix_steps import dealt

BAND = 0.03
"""Micro-batches cost at most this share less than their band's costliest, tasks and left-overs apart."""
WINDOW = 64
"""Micro-batches in which tasks hold their share: those of a step, or of several steps that have fewer."""


@dataclass(frozen=True)
class Mixture:
    """What steps are made of, from what is to be expected of the draws.

    band: int [buckets], band of each bucket of the main tasks, -1 for none; 0 is the costliest. size: int [bands,
    buckets], samples of a full micro-batch. shares: float [bands], cumulated shares of the main samples. is_side: bool
    [tasks], whether a task's micro-batches go into the steps of all bands (pictures beside clips).
    """

    band: np.ndarray
    size: np.ndarray
    shares: np.ndarray
    is_side: np.ndarray

    @property
    def bands(self) -> int:
        """Number of bands of cost."""
        return len(self.size)

    def groups(self, bucket: np.ndarray, task: np.ndarray, serials: np.ndarray, seed: int) -> np.ndarray:
        """Return the group of each draw: (band · buckets + bucket) · tasks + task."""
        band = self.band[bucket]
        side = np.flatnonzero(self.is_side[task])
        at = uniform(serials[side], key_of(seed, SIDE))
        band[side] = np.minimum(np.searchsorted(self.shares, at, "right"), self.bands - 1)
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
    clips = bool(expected[:, ~is_still].sum() > 0)
    is_side = is_still & clips
    main = expected[:, ~is_side].sum(1)
    band = _bands(cost, main > 0)
    bands = int(band.max()) + 1
    samples, batches = np.zeros(bands), np.zeros(bands)
    np.add.at(samples, band[main > 0], main[main > 0])
    np.add.at(batches, band[main > 0], (main / capacity)[main > 0])
    size = np.tile(capacity, (bands, 1))
    if is_side.any():
        beside = expected[:, is_side].sum() / main.sum()
        pictures = expected[:, is_side].sum(1) > 0
        for k in range(bands):
            top = cost[band == k].max()  # a micro-batch of pictures may not be what all others wait for
            most = int(np.minimum(capacity, top * capacity // cost)[pictures].min())
            size[k] = _side_size(beside, samples[k] / batches[k], max(step, WINDOW), max(1, most))
        size[band[main > 0], np.flatnonzero(main > 0)] = capacity[main > 0]
    return Mixture(band, size, np.cumsum(samples) / samples.sum(), is_side)


def _bands(cost: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Band of each used bucket, from the costliest down."""
    band, number, top = np.full(len(cost), -1), -1, np.inf
    for i in np.argsort(-cost, kind="stable").tolist():
        if used[i]:
            if cost[i] < (1 - BAND) * top or number < 0:
                number, top = number + 1, cost[i]
            band[i] = number
    return band


def _side_size(beside: float, clips: float, window: int, most: int) -> int:
    """Return the samples of a micro-batch of pictures that give them their share of a window in whole micro-batches.

    beside: pictures per clip. clips: of a micro-batch. most: that fit.
    """
    for batches in range(1, window):
        size = beside * (window - batches) * clips / batches
        if size <= most:
            return max(1, int(size))  # rounded down: rather a step with one more than one without
    return most


@dataclass(frozen=True)
class Arrangement:
    """A block's draws as micro-batches, in the order in which steps take them.

    draws: places in the block, micro-batch after micro-batch; batch j is draws[starts[j] : stops[j]], of groups[j].
    """

    draws: np.ndarray
    starts: np.ndarray
    stops: np.ndarray
    groups: np.ndarray

    def __len__(self) -> int:
        return len(self.groups)


def arrange(
    groups: np.ndarray,
    mixed: Mixture,
    cost: Callable[[int, int], int],
    *,
    step: int,
    offset: int,
    key: np.uint64,
    snapshots: np.ndarray | None = None,
) -> Arrangement:
    """Put a block's draws into micro-batches, and these into steps.

    Args:
        groups: int [D], of each draw, in the order of the draws, which each group keeps, or each snapshot in it.
        mixed: what steps are made of.
        cost: of a micro-batch, by its group and samples.
        step: micro-batches per step.
        offset: micro-batches of all blocks before this one.
        key: of the places at which groups begin.
        snapshots: int [D], of each draw, where there are several: all get their share of each step.
    """
    draws = np.argsort(groups, kind="stable")
    kinds, counts = np.unique(groups, return_counts=True)
    bands, buckets, tasks = mixed.split(kinds)
    sizes = mixed.size[bands, buckets]
    batches = -(-counts // sizes)
    of = np.repeat(np.arange(len(kinds)), batches)
    number = np.arange(len(of)) - np.repeat(np.cumsum(batches) - batches, batches)
    ends = np.cumsum(counts)
    starts = (ends - counts)[of] + number * sizes[of]
    stops = np.minimum(starts + sizes[of], ends[of])
    place = (number + uniform(kinds, key)[of]) / batches[of]
    whole = stops - starts == sizes[of]
    steps, pool = _steps(bands[of], tasks[of], place, whole, step, key)
    head = -offset % step  # completes the step that the block before has begun, with the least costly
    steps, pool = _fill(steps, pool, head)
    pool = pool[np.argsort([-cost(int(kinds[of[j]]), int(stops[j] - starts[j])) for j in pool], kind="stable")]
    head = min(head, len(pool))
    order = np.concatenate([pool[len(pool) - head :], steps.ravel(), pool[: len(pool) - head]])
    if snapshots is not None:
        of_band = np.maximum(mixed.split(groups[draws])[0], 0)
        draws = dealt(draws, groups[draws], of_band, snapshots[draws], starts[order], stops[order])
    return Arrangement(draws, starts[order], stops[order], kinds[of[order]])


def _steps(
    bands: np.ndarray, tasks: np.ndarray, place: np.ndarray, whole: np.ndarray, step: int, key: np.uint64
) -> tuple[np.ndarray, np.ndarray]:
    """(whole steps [S, step] of one band each, the micro-batches that are in none)."""
    found, times, pool = [np.empty((0, step), np.int64)], [np.empty(0)], [np.flatnonzero(~whole)]
    for k in np.unique(bands[whole]).tolist():
        mine = np.flatnonzero(whole & (bands == k))
        mine = mine[np.argsort(_spread(tasks[mine], place[mine], key), kind="stable")]
        count = len(mine) // step
        found.append(mine[: count * step].reshape(count, step))
        times.append((np.arange(count) + uniform(np.array([k]), key)) / max(1, count))
        pool.append(mine[count * step :])
    order = np.argsort(np.concatenate(times), kind="stable")
    return np.concatenate(found)[order], np.concatenate(pool)


def _spread(tasks: np.ndarray, place: np.ndarray, key: np.uint64) -> np.ndarray:
    """Places in [0, 1) at which the micro-batches of each task are at equal distances, in the order of `place`."""
    out = np.empty(len(tasks))
    for task in np.unique(tasks).tolist():
        mine = np.flatnonzero(tasks == task)
        rank = np.empty(len(mine))
        rank[np.argsort(place[mine], kind="stable")] = np.arange(len(mine))
        out[mine] = (rank + uniform(np.array([task]), key_of(int(key), SPREAD))) / len(mine)
    return out


def _fill(steps: np.ndarray, pool: np.ndarray, need: int) -> tuple[np.ndarray, np.ndarray]:
    """Take steps apart, from the last on, until the pool has `need` micro-batches."""
    short = max(0, need - len(pool))
    apart = min(len(steps), -(-short // steps.shape[1]))
    kept = len(steps) - apart
    return steps[:kept], np.concatenate([pool, steps[kept:].ravel()])
