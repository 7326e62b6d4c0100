"""Which clip the n-th draw of a run takes: computed from n alone, so that no past draw has to be made.

A pass takes as many draws as there are training clips. It is a systematic sample (Madow, 1949): points at distance one
over the cumulated weights, which sum to the number of clips, from an offset of the pass' own. So a clip of weight w
gets floor(w / mean) or one more. The points are taken in the order of a keyed permutation of the pass, a Feistel
network over two digits, which needs no memory whatever the number of clips.
"""

from __future__ import annotations

import numpy as np

MASK = (1 << 64) - 1
ROUNDS = 8
"""Half-rounds of the Feistel network; 4 give a pseudo-random permutation (Luby and Rackoff, 1988), with margin."""
PERMUTE, OFFSET, OPTION, CONDITION, SPREAD, PROMPT = 1, 2, 3, 4, 5, 7
"""Use of a random number: each use has a stream of its own."""


def mix(x: np.ndarray) -> np.ndarray:
    """uint64 -> uint64, well mixed: the finalizer of SplitMix64 (Steele, Lea and Flood, 2014)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def key_of(*words: int) -> np.uint64:
    """Return one key of several numbers, such as a seed and a use."""
    key = np.zeros(1, np.uint64)
    for word in words:
        key = mix(key ^ mix(np.array([word & MASK], np.uint64)))
    return np.uint64(key[0])


def uniform(counters: np.ndarray, key: np.uint64) -> np.ndarray:
    """Return a float64 in [0, 1) per counter, by counter and key alone."""
    return (mix(mix(counters.astype(np.uint64)) ^ key) >> np.uint64(11)) * 2.0**-53


def permuted(positions: np.ndarray, count: int, keys: np.ndarray) -> np.ndarray:
    """Return the positions of 0 … count - 1 in the order that a key decides.

    Args:
        positions: int64 [N], each in 0 … count - 1.
        count: length of the permutation.
        keys: uint64, one or [N]: another key is another permutation.

    Returns:
        int64 [N]; of all positions under one key, each position once.
    """
    left = int(np.ceil(np.sqrt(count)))
    right = -(-count // left)  # left · right is count, or a little more: numbers out of the range are permuted again
    keys = np.broadcast_to(keys, positions.shape)
    out = _feistel(positions.astype(np.uint64), left, right, keys)
    while len(outside := np.flatnonzero(out >= np.uint64(count))):
        out[outside] = _feistel(out[outside], left, right, keys[outside])
    return out.astype(np.int64)


def _feistel(x: np.ndarray, left: int, right: int, keys: np.ndarray) -> np.ndarray:
    wide, tall = np.uint64(right), np.uint64(left)
    high: np.ndarray = x // wide
    low: np.ndarray = x % wide
    for number in range(ROUNDS):
        key = mix(keys + np.uint64(number))
        if number % 2:
            high = (high + mix(low ^ key) % tall) % tall
        else:
            low = (low + mix(high ^ key) % wide) % wide
    return high * wide + low


def rows_of(serials: np.ndarray, edges: np.ndarray, clips: int, seed: int) -> np.ndarray:
    """Return the row of the clip that each draw takes.

    Args:
        serials: int64, numbers of draws since step 0.
        edges: float64 [rows], cumulated draws per pass of each row, up to `clips`; rows that are never drawn add
            nothing.
        clips: training clips, which is the number of draws of a pass.
        seed: of the run.
    """
    number, position = np.divmod(serials, clips)
    point = permuted(position, clips, mix(number.astype(np.uint64)) ^ key_of(seed, PERMUTE))
    at = point + uniform(number, key_of(seed, OFFSET))
    return np.searchsorted(edges, np.minimum(at, np.nextafter(edges[-1], 0)), "right")
