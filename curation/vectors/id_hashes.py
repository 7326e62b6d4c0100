"""An order of clips by chance that is the same for everyone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np


def hashes_of(ids: Sequence[str], seed: int) -> np.ndarray:
    """Return a hash of seed and id for each, uint64 [N]."""
    digests = [hashlib.blake2b(f"{seed}:{one}".encode(), digest_size=8).digest() for one in ids]
    return np.frombuffer(b"".join(digests), ">u8").astype(np.uint64)
