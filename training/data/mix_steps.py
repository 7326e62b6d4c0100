"""Which draws of a group go into which of its micro-batches, so that every step has each snapshot's share.

A group's micro-batches and their order in the steps follow from the number of its draws alone. So the steps are known
before it is said which draw goes where, and draws are dealt out in the order in which steps take them. A step is of one
band of cost (`rounds`), so the share that it gets is the snapshot's share of that band: a snapshot of long clips alone
has none in a step of short ones, and more than its share in a step of long ones.
"""

from __future__ import annotations

import numpy as np


def dealt(
    draws: np.ndarray,
    groups: np.ndarray,
    bands: np.ndarray,
    kinds: np.ndarray,
    starts: np.ndarray,
    stops: np.ndarray,
) -> np.ndarray:
    """Return `draws` in another order inside each group: micro-batch after micro-batch, each kind in its share.

    Each place takes the kind that lacks most: of its share of the places of the band so far, and of its share of
    those of the group. Draws of one group and kind keep their order.

    Args:
        draws: int [D], by group.
        groups: int [D], group of each of `draws`.
        bands: int [D], band of each of `draws`.
        kinds: int [D], of each of `draws`, at least 0.
        starts: first place in `draws` of each micro-batch, in the order in which steps take them.
        stops: the place after its last.
    """
    count = int(kinds.max(initial=0)) + 1
    _, first, sizes = np.unique(groups, return_index=True, return_counts=True)
    pair = np.repeat(np.arange(len(first)), sizes) * count + kinds
    order = np.argsort(pair, kind="stable")
    numbers = np.bincount(pair, minlength=len(first) * count).reshape(-1, count)
    queues = (np.cumsum(numbers) - numbers.ravel()).reshape(-1, count).tolist()  # next of each, in `order`
    left = numbers.tolist()
    in_group = (numbers / sizes[:, None]).tolist()
    band_of = bands[first]
    of_band = np.zeros((int(bands.max(initial=0)) + 1, count))
    np.add.at(of_band, band_of, numbers)
    in_band = (of_band / np.maximum(of_band.sum(1, keepdims=True), 1)).tolist()
    band_lacks, group_lacks = ([[0.0] * count for _ in range(n)] for n in (len(of_band), len(sizes)))
    of = np.searchsorted(first, starts, "right") - 1
    out = np.empty(len(draws), np.int64)
    for g, start, stop in zip(of.tolist(), starts.tolist(), stops.tolist(), strict=True):
        own, mine, share, queue = group_lacks[g], left[g], in_group[g], queues[g]
        lacks, wanted = band_lacks[band_of[g]], in_band[band_of[g]]
        for place in range(start, stop):
            for k in range(count):
                lacks[k] += wanted[k]
                own[k] += share[k]
            best = max((k for k in range(count) if mine[k]), key=lambda k: lacks[k] + own[k])
            lacks[best] -= 1
            own[best] -= 1
            mine[best] -= 1
            out[place] = order[queue[best]]
            queue[best] += 1
    return draws[out]
