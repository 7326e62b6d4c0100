"""Clips whose frames' hashes are alike, without comparing every clip with every other."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from reelwright.annotate.sets.duplicates.groups import LARGEST_BLOCK
from reelwright.curation.vectors.scratch import Scratch

MAX_FRAMES = 8  # hashes of a clip that are compared
FEWEST_BANDS = 3  # of at most 22 bits, whose values can be counted
CHUNK = 1 << 20  # pairs looked at in one piece: bounds the memory
ROWS = 1 << 18  # clips read in one piece while bands are made


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
    """Pairs with `distance` at most max_bits.

    The distance is a mean of distances between frames, so one of them is no larger: clips with such a pair of frames
    are found by multi-index hashing (Norouzi et al., 2012). With radius // 2 + 1 bands of bits, two hashes within the
    radius differ by at most one bit in one of the bands, so they are equal there once that bit is turned.

    Per frame 8 bytes for its hash and 36 for the bands lie in scratch.

    Args:
        hashes: uint64 [N, MAX_FRAMES] as `padded` makes them.
        max_bits: the threshold.
        scratch: holds the bands.
    """

    def __init__(self, hashes: np.ndarray, max_bits: float, scratch: Scratch | None = None) -> None:
        self.hashes, self.block = hashes, LARGEST_BLOCK
        self.max_bits = max_bits
        self.radius = int(max_bits)
        bands = max(self.radius // 2 + 1, FEWEST_BANDS)
        edges = [64 * k // bands for k in range(bands + 1)]
        scratch = scratch or Scratch()
        self._held = len(hashes)
        self.bands = [_Band(hashes, low, high - low, scratch) for low, high in pairwise(edges)]

    def __call__(self, block: np.ndarray, free: np.ndarray) -> np.ndarray:
        """Find pairs within `max_bits`; see `Neighbours`."""
        self._forget(free)
        some = self.hashes[block]
        row, frame = np.nonzero(some)
        found = [self._with_like_frames(block[row], some[row, frame], band, free) for band in self.bands]
        pairs = self._distinct(np.concatenate(found))
        chunks = [pairs[i : i + CHUNK] for i in range(0, len(pairs), CHUNK)]
        near = [c[distance(*self.hashes[c.T]) <= self.max_bits] for c in chunks]
        return np.concatenate([pairs[:0], *near])

    def _forget(self, free: np.ndarray) -> None:
        """Leave clips that are not free out of the bands, each time that half of those in there are not."""
        left = int(np.count_nonzero(free))
        if 2 * left <= self._held:
            self._held = left
            for band in self.bands:
                band.forget(free)

    def _with_like_frames(self, clips: np.ndarray, values: np.ndarray, band: _Band, free: np.ndarray) -> np.ndarray:
        """Pairs of clips, one of these frames' and a free one, that have frames alike in a band."""
        bits = _bits(values, band.low, band.width)
        found = [np.zeros((0, 2), np.int64)]
        for turned in [0, *(1 << bit for bit in range(band.width))]:
            starts, ends = band.places(bits ^ turned)
            for a, position in _runs(starts, ends - starts):
                near = np.flatnonzero(np.bitwise_count(values[a] ^ band.values[position]) <= self.radius)
                pairs = np.stack([clips[a[near]], band.clips[position[near]]], axis=1)
                pairs = pairs[(pairs[:, 0] < pairs[:, 1]) & free[pairs[:, 1]]]
                found.append(self._distinct(pairs))
        return np.concatenate(found)

    def _distinct(self, pairs: np.ndarray) -> np.ndarray:
        one = np.unique(pairs[:, 0] * len(self.hashes) + pairs[:, 1])
        return np.stack(np.divmod(one, len(self.hashes)), axis=1)


class _Band:
    """Frames in order of some of their bits.

    Attributes:
        low: the first of the bits.
        width: their number.
        values: uint64 [F], hash of each frame.
        clips: int32 [F], the clip that it is of.
    """

    def __init__(self, hashes: np.ndarray, low: int, width: int, scratch: Scratch) -> None:
        self.low, self.width = low, width
        sizes = np.zeros(1 << width, np.int64)
        for first in range(0, len(hashes), ROWS):
            some = hashes[first : first + ROWS]
            sizes += np.bincount(_bits(some[some != 0], low, width), minlength=len(sizes))
        self._ends = np.cumsum(sizes)
        frames = int(self._ends[-1])
        self.values, self.clips = scratch.array((frames,), np.uint64), scratch.array((frames,), np.int32)
        begins = self._ends - sizes
        for first in range(0, len(hashes), ROWS):
            some = hashes[first : first + ROWS]
            row, frame = np.nonzero(some)
            self._put(begins, some[row, frame], (first + row).astype(np.int32))

    def places(self, bits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return where the frames with these bits start and end."""
        return np.where(bits, self._ends[bits - 1], 0), self._ends[bits]

    def forget(self, free: np.ndarray) -> None:
        """Leave out the frames of clips that are not free."""
        sizes, kept = np.zeros_like(self._ends), 0
        for first in range(0, len(self.clips), ROWS):
            piece = slice(first, first + ROWS)
            stays = free[self.clips[piece]]
            values, clips = self.values[piece][stays], self.clips[piece][stays]
            self.values[kept : kept + len(values)], self.clips[kept : kept + len(values)] = values, clips
            sizes += np.bincount(_bits(values, self.low, self.width), minlength=len(sizes))
            kept += len(values)
        self.values, self.clips, self._ends = self.values[:kept], self.clips[:kept], np.cumsum(sizes)

    def _put(self, begins: np.ndarray, values: np.ndarray, clips: np.ndarray) -> None:
        """Put frames after those that are there with the same bits; begins: next place of each, moved on."""
        bits = _bits(values, self.low, self.width)
        order = np.argsort(bits, kind="stable")
        found, first, count = np.unique(bits[order], return_index=True, return_counts=True)
        place = np.repeat(begins[found] - first, count) + np.arange(len(order))
        self.values[place], self.clips[place] = values[order], clips[order]
        begins[found] += count


def _bits(values: np.ndarray, low: int, width: int) -> np.ndarray:
    return ((values >> np.uint64(low)) & np.uint64((1 << width) - 1)).astype(np.int64)


def _runs(starts: np.ndarray, sizes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (k, each of the sizes[k] places from starts[k] on), for all k, some CHUNK at a time."""
    items = np.flatnonzero(sizes)
    starts, sizes = starts[items], sizes[items]
    begins = np.cumsum(sizes) - sizes
    cuts = np.flatnonzero(np.diff(begins // CHUNK, prepend=-1))
    for low, high in pairwise([*cuts, len(items)]):
        size = sizes[low:high]
        inside = np.arange(size.sum()) - np.repeat(begins[low:high] - begins[low], size)
        yield np.repeat(items[low:high], size), np.repeat(starts[low:high], size) + inside
