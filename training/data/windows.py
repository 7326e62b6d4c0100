"""Which windows of a clip are encoded: one in the middle, or several; each draw of a clip shows one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from reelwright.training.data.buckets import Bucket
from reelwright.training.data.draws import mix
from reelwright.training.recipe import DataConfig

if TYPE_CHECKING:
    from reelwright.training.data.schedule import Draw, Schedule

MIDDLE = Fraction(1, 2)
SALT = np.uint64(0x3D7A)
"""Separates the choice of a window from the other uses of a draw's seed."""


@dataclass(frozen=True, order=True)
class Window:
    """A window of a clip in a bucket. place: where it lies, 0 at the beginning of the clip to 1 at its end."""

    bucket: Bucket
    place: Fraction = MIDDLE

    @property
    def key(self) -> str:
        """Name in the store: the bucket's for the middle, `93x480x832@1/6` for others."""
        return self.bucket.key if self.place == MIDDLE else f"{self.bucket.key}@{self.place}"


def count_windows(lengths: np.ndarray, bucket: Bucket, data: DataConfig) -> np.ndarray:
    """Count the windows of clips in a bucket.

    Args:
        lengths: frames of each clip, sampled at the recipe's rate, [N].
        bucket: whose frames a window has.
        data: how many windows there are at most, and how far they lie apart at least.

    Returns:
        int64 [N], at least 1: a clip that is hardly longer than the bucket has the middle alone.
    """
    rate = data.rate_of(bucket.frames)
    if rate != data.fps:
        lengths = np.floor(lengths * (rate / data.fps)).astype(np.int64)
    apart = max(1, round(data.window_stride_s * rate))
    return np.clip((lengths - bucket.frames) // apart, 1, data.windows)


def window(bucket: Bucket, number: int, count: int) -> Window:
    """Return one of `count` windows, in the middle of as many equal parts of what a window can be moved by."""
    return Window(bucket, Fraction(2 * number + 1, 2 * count))


def wanted_windows(schedule: Schedule, here: slice = slice(None)) -> Iterator[tuple[Window, np.ndarray]]:
    """Yield each window with the rows of the clips that may be drawn in it: what precomputing must have made.

    here: see `Schedule.wanted`.
    """
    for bucket, rows in schedule.wanted(here):
        if schedule.data.windows == 1:
            yield Window(bucket), rows
            continue
        counts = count_windows(schedule.lengths[rows], bucket, schedule.data)
        rows_of: dict[Window, list[np.ndarray]] = {}
        for count in np.unique(counts).tolist():
            for number in range(count):
                rows_of.setdefault(window(bucket, number, count), []).append(rows[counts == count])
        for one, parts in sorted(rows_of.items()):
            yield one, np.sort(np.concatenate(parts))


def drawn_windows(schedule: Schedule, bucket: Bucket, draws: Sequence[Draw]) -> list[Window]:
    """Return the window that each draw shows: one of its clip's, by the draw's seed alone."""
    if schedule.data.windows == 1:
        return [Window(bucket)] * len(draws)
    counts = count_windows(schedule.lengths[[d.row for d in draws]], bucket, schedule.data)
    numbers = mix(np.array([d.seed for d in draws], np.uint64) ^ SALT) % counts.astype(np.uint64)
    return [window(bucket, int(number), int(count)) for number, count in zip(numbers, counts, strict=True)]
