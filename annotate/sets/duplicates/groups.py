"""Groups from likeness, without chains."""

from __future__ import annotations

from typing import Protocol

import numpy as np

FIRST_BLOCK, LARGEST_BLOCK = 1, 2048


class Neighbours(Protocol):
    """A search for items that are alike."""

    def __call__(self, block: np.ndarray, free: np.ndarray) -> np.ndarray:
        """Every pair (i, j), i < j, of items that are alike, i in `block` and free[j]: int64 [P, 2], each once.

        block: indices, ascending. free: bool [N]; what is not free will not be free again.
        """


def group(count: int, neighbours: Neighbours, largest: int = LARGEST_BLOCK) -> np.ndarray:
    """Return the first of each item's group, int64 [count]: leader clustering in order of index.

    The first item that is in no group yet begins one and takes all that are like it and in none. Items are asked for
    their neighbours in blocks that grow: a camera that never moves makes all its clips alike, and once the first few
    have taken them, the rest is never compared. largest: of these blocks.
    """
    first, free = np.full(count, -1), np.ones(count, bool)
    start, size = 0, FIRST_BLOCK
    while start < count:
        block = start + np.flatnonzero(free[start : start + size])
        pairs = neighbours(block, free)
        pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
        begins = np.searchsorted(pairs[:, 0], block, "left")
        ends = np.searchsorted(pairs[:, 0], block, "right")
        for item, begin, end in zip(block, begins, ends, strict=True):
            if first[item] < 0:
                first[item], free[item] = item, False
                near = pairs[begin:end, 1]
                near = near[first[near] < 0]
                first[near] = item
                free[near] = False
        start, size = start + size, min(2 * size, largest)
    return first
