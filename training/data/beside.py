"""Pictures that go beside clips: how many places of a step they may fill, and which of them are next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

Batches = np.ndarray
"""int [batches, 3]: the group of each micro-batch, and its draws: from, to."""


def samples_in(batches: Batches) -> int:
    """Return the samples of all micro-batches."""
    return int(batches[:, 2].sum() - batches[:, 1].sum())


class Ways:
    """Every way to fill places of a step with micro-batches of one size or two, by rising number of places.

    places: int [ways]. pictures: int [ways], samples in them.
    """

    def __init__(self, sizes: tuple[int, ...], step: int) -> None:
        self.low, self.high = (sizes[0], sizes[-1]) if sizes else (0, 0)
        ways = [
            (places, large)
            for places in range(step + 1 if sizes else 1)
            for large in range(places + 1 if self.high > self.low else 1)
        ]
        self.places, self._large = np.array(ways).T
        self.pictures = self.places * self.low + self._large * (self.high - self.low)

    def sizes(self, way: int) -> list[int]:
        """Return the samples of each micro-batch."""
        large = int(self._large[way])
        return [self.high] * large + [self.low] * (int(self.places[way]) - large)


@dataclass
class Pictures:
    """A block's draws of pictures, by group: from `begin` to `ends`, taken as far as `at`. phase: in [0, 1)."""

    kinds: np.ndarray
    begin: np.ndarray
    ends: np.ndarray
    phase: np.ndarray
    at: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.at = self.begin.copy()

    @property
    def left(self) -> int:
        """Draws that are not taken."""
        return int((self.ends - self.at).sum())

    def take(self, sizes: list[int]) -> Batches:
        """Take a micro-batch of each size, or several of other sizes where no group has as many left."""
        return np.array([batch for size in sizes for batch in self._take(size)], np.int64).reshape(-1, 3)

    def _take(self, size: int) -> Iterator[tuple[int, int, int]]:
        while size > 0 and self.left:
            left = self.ends - self.at
            share = (left + self.phase) / (self.ends - self.begin)
            g = int(np.argmax(np.where(left >= size, share, -1.0) if (left >= size).any() else left))
            count = min(size, int(left[g]))
            yield int(self.kinds[g]), int(self.at[g]), int(self.at[g]) + count
            self.at[g] += count
            size -= count


def pieces(total: int, most: int, least: int = 0) -> list[int]:
    """Return the fewest sizes, at least `least` if it can be, of at most `most` each, that sum to `total`, evenly."""
    count = max(-(-total // most), min(least, total))
    return [total // count + (i < total % count) for i in range(count)]
