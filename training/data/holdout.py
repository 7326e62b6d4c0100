"""Which clips are kept for validation: by a hash, so a clip that one stage has held out no later stage trains on."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SOURCES_HELD = 2  # whole sources are held out once that many are to be expected among them


def held_out(
    clip_ids: Sequence[str] | pa.Array,
    sources: Sequence[str | None] | pa.Array,
    usable: np.ndarray,
    share: float,
) -> tuple[Literal["source", "clip"], np.ndarray]:
    """Return the kind of held-out unit, sources or clips, and the held-out clips ([N] bool).

    Shots of one source look alike, so where there are enough sources (2 / share) they are held out whole; with fewer,
    clips are. Where the hash picks none, the unit with the smallest hash is taken; where it picks all, the one with
    the largest is left.
    """
    clips, named = pa.array(clip_ids, pa.large_string()), pa.array(sources, pa.large_string())
    units = pc.if_else(pc.fill_null(pc.not_equal(named, ""), False), named, clips).dictionary_encode()
    count = len(units.dictionary)
    by_source = share > 0 and count < len(units) and count >= SOURCES_HELD / share
    chosen_by = units if by_source else clips.dictionary_encode()
    names, of = chosen_by.dictionary, chosen_by.indices.to_numpy()
    alive = np.bincount(of, weights=usable, minlength=len(names)) > 0
    kind: Literal["source", "clip"] = "source" if by_source else "clip"
    if share == 0 or alive.sum() < 2:
        return kind, np.zeros(len(units), bool)
    keys = hashes(name.as_py() for name in names)
    chosen = np.asarray(keys < np.uint64(share * 2**64))
    order = np.flatnonzero(alive)[np.argsort(keys[alive])]
    if not chosen[order].any():
        chosen[order[0]] = True
    if chosen[order].all():
        chosen[order[-1]] = False
    return kind, chosen[of]


def hashes(names: Iterable[str]) -> np.ndarray:
    """uint64 of each name, the same everywhere and always."""
    digests = b"".join(hashlib.blake2b(n.encode("utf-8", "surrogatepass"), digest_size=8).digest() for n in names)
    return np.frombuffer(digests, "<u8")
