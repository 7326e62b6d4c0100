"""Keys of a column of a table, and which of them are among some."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from reelwright.curation.keys.hashing import Hasher
from reelwright.curation.keys.sorted_keys import KEY, match, sort


def row_keys(hasher: Hasher, texts: pa.Array) -> np.ndarray:
    """Return KEY [N]; zeros where there is no text."""
    known = np.asarray(texts.is_valid())
    found, keys = np.zeros(len(texts), KEY), np.empty(int(known.sum()), KEY)
    keys["upper"], keys["lower"] = hasher(texts.filter(pa.array(known)))
    found[known] = keys
    return found


def among(keys: np.ndarray, some: np.ndarray) -> np.ndarray:
    """Return bool [N]: which keys are among some others. keys, some: KEY records, in any order."""
    order = np.argsort(keys["upper"], kind="stable")
    found = np.zeros(len(keys), bool)
    found[order] = match(keys[order], sort(some)) >= 0
    return found
