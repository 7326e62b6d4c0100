"""What a list says of a file beside its address, as one number: equal for equal captions and parts."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelwright.curation.keys.hashing import Hasher

CAPTIONS = pa.list_(pa.large_string())
PARTS_OF_A_FILE = pa.list_(pa.struct([("start", pa.float64()), ("end", pa.float64()), ("captions", CAPTIONS)]))
NOTHING, NEVER = np.uint64(0), np.uint64(2**64 - 1)
"""Keys of an input without captions and parts, and of one that is like nothing that is known."""
STEP, FIRST, SECOND = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def said_keys(hasher: Hasher, captions: pa.ListArray, parts: pa.ListArray) -> np.ndarray:
    """Return uint64 [N], NOTHING where there is neither.

    Args:
        hasher: of texts.
        captions: CAPTIONS [N], of the whole files.
        parts: PARTS_OF_A_FILE [N], times in seconds, infinite for "to the end".
    """
    each = parts.flatten()
    times = [_mixed((np.asarray(each.field(n)) + 0.0).view(np.uint64) + np.uint64(n) * STEP) for n in (0, 1)]
    of_parts = _folded(parts, times[0] * FIRST + times[1] * SECOND + _texts(hasher, each.field(2)))
    of_files = _texts(hasher, captions)
    found = np.clip(_mixed(of_files * FIRST + of_parts * SECOND), NOTHING + np.uint64(1), NEVER - np.uint64(1))
    return np.where((of_files == 0) & (of_parts == 0), NOTHING, found)


def _texts(hasher: Hasher, lists: pa.ListArray) -> np.ndarray:
    return _folded(lists, hasher(lists.flatten())[0])


def _folded(lists: pa.ListArray, values: np.ndarray) -> np.ndarray:
    """Return uint64 [N] of lists, by their values in order; 0 for an empty one. values: uint64, of all lists."""
    lengths = pc.fill_null(lists.value_lengths(), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    ends = np.cumsum(lengths)
    places = np.arange(len(values)) - np.repeat(ends - lengths, lengths)
    sums = np.append(np.uint64(0), np.cumsum(_mixed(values + (places + 1).astype(np.uint64) * STEP)))
    found = _mixed(sums[ends] - sums[ends - lengths] + lengths.astype(np.uint64))
    return np.where(lengths > 0, np.maximum(found, np.uint64(1)), np.uint64(0))


def _mixed(values: np.ndarray) -> np.ndarray:
    """Spread numbers over all bits, uint64 (the finalizer of SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * FIRST
    values = (values ^ (values >> np.uint64(27))) * SECOND
    return values ^ (values >> np.uint64(31))
