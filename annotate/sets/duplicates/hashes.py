"""Clips whose frames' hashes are alike, without comparing every clip with every other."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

MAX_FRAMES = 8  # hashes of a clip that are compared
FEWEST_BANDS = 3  # of at most 22 bits, whose values can be counted
CHUNK = 1 << 20  # pairs looked at in one piece: bounds the memory


def padded(values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return uint64 [N, MAX_FRAMES]: the hashes of each clip's frames that are not flat, then zeros.

    There are zeros alone where half of the frames or more are flat.

    Args:
        values: all clips' hashes.
        lengths: [N], hashes per clip.
    """
    clip = np.repeat(np.arange(len(lengths)), lengths)
    frame = np.arange(len(clip)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    plain = np.bincount(clip[values != 0], minlength=len(lengths))
    kept = (values != 0) & (2 * plain > lengths)[clip] & (frame < MAX_FRAMES)
    clip, hashes = clip[kept], np.zeros((len(lengths), MAX_FRAMES), np.uint64)
    hashes[clip, np.arange(len(clip)) - np.searchsorted(clip, clip)] = values[kept]
    return hashes


def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the mean bits between frames matched in order.

    Dynamic time warping with symmetric steps (Sakoe & Chiba, 1978).

    A step on in both clips weighs 2, in one of them 1, so the weights add up to the frames of both. That forgives a
    copy that is cut a little shorter, and not the same pictures in the other order.

    a, b: uint64 [P, MAX_FRAMES] as `padded` makes them, none without frames. Returns float64 [P].
    """
    lengths = np.count_nonzero(a, axis=1), np.count_nonzero(b, axis=1)
    rows, columns = (int(n.max(initial=0)) for n in lengths)
    total = np.full((rows + 1, columns + 1, len(a)), np.inf)
    total[0, 0] = 0
    for i in range(rows):
        for j in range(columns):
            bits = np.bitwise_count(a[:, i] ^ b[:, j]).astype(np.float64)
            on_in_one = np.minimum(total[i, j + 1], total[i + 1, j]) + bits
            total[i + 1, j + 1] = np.minimum(total[i, j] + 2 * bits, on_in_one)
    return total[lengths[0], lengths[1], np.arange(len(a))] / (lengths[0] + lengths[1])


class LikeHashes:
    """Pairs with `distance` at most max_bits; hashes: uint64 [N, MAX_FRAMES] as `padded` makes them.

    The distance is a mean of distances between frames, so one of them is no larger: clips with such a pair of frames
    are found by multi-index hashing (Norouzi et al., 2012). With radius // 2 + 1 bands of bits, two hashes within the
    radius differ by at most one bit in one of the bands, so they are equal there once that bit is turned.
    """

    def __init__(self, hashes: np.ndarray, max_bits: float) -> None:
        self.hashes = hashes
        self.max_bits = max_bits
        self.radius = int(max_bits)
        self.clip, frame = np.nonzero(hashes)
        self.values = hashes[self.clip, frame]
        bands = max(self.radius // 2 + 1, FEWEST_BANDS)
        edges = [64 * k // bands for k in range(bands + 1)]
        self.bands = [(low, high - low) for low, high in pairwise(edges)]
        self.orders = [np.argsort(_bits(self.values, *band), kind="stable") for band in self.bands]

    def __call__(self, block: np.ndarray, free: np.ndarray) -> np.ndarray:
        """Find pairs within `max_bits`; see `Neighbours`."""
        asking = np.zeros(len(self.hashes), bool)
        asking[block] = True
        frames = np.flatnonzero(asking[self.clip])
        found = [self._with_like_frames(frames, k, free) for k in range(len(self.bands))]
        pairs = self._distinct(np.concatenate(found))
        chunks = [pairs[i : i + CHUNK] for i in range(0, len(pairs), CHUNK)]
        near = [c[distance(*self.hashes[c.T]) <= self.max_bits] for c in chunks]
        return np.concatenate([pairs[:0], *near])

    def _with_like_frames(self, frames: np.ndarray, k: int, free: np.ndarray) -> np.ndarray:
        """Pairs of clips, one of these frames' and a free one, that have frames alike in band k."""
        self.orders[k] = self.orders[k][free[self.clip[self.orders[k]]]]
        order = self.orders[k]
        band = self.bands[k]
        sizes = np.bincount(_bits(self.values[order], *band), minlength=1 << band[1])
        ends = np.cumsum(sizes)
        bits = _bits(self.values[frames], *band)
        found = [np.zeros((0, 2), np.int64)]
        for turned in [0, *(1 << bit for bit in range(band[1]))]:
            wanted = bits ^ turned
            for a, position in _runs(frames, ends[wanted], sizes[wanted]):
                b = order[position]
                near = np.bitwise_count(self.values[a] ^ self.values[b]) <= self.radius
                pairs = np.stack([self.clip[a[near]], self.clip[b[near]]], axis=1)
                found.append(self._distinct(pairs[pairs[:, 0] < pairs[:, 1]]))
        return np.concatenate(found)

    def _distinct(self, pairs: np.ndarray) -> np.ndarray:
        one = np.unique(pairs[:, 0] * len(self.hashes) + pairs[:, 1])
        return np.stack(np.divmod(one, len(self.hashes)), axis=1)


def _bits(values: np.ndarray, low: int, width: int) -> np.ndarray:
    return ((values >> np.uint64(low)) & np.uint64((1 << width) - 1)).astype(np.int64)


def _runs(items: np.ndarray, ends: np.ndarray, sizes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """items[k] with each of the sizes[k] places before ends[k], for all k, some CHUNK at a time."""
    filled = np.flatnonzero(sizes)
    items, starts, sizes = items[filled], (ends - sizes)[filled], sizes[filled]
    begins = np.cumsum(sizes) - sizes
    cuts = np.flatnonzero(np.diff(begins // CHUNK, prepend=-1))
    for low, high in pairwise([*cuts, len(items)]):
        size = sizes[low:high]
        inside = np.arange(size.sum()) - np.repeat(begins[low:high] - begins[low], size)
        yield np.repeat(items[low:high], size), np.repeat(starts[low:high], size) + inside
