"""Which clips are kept for validation: by a hash, so a clip that one stage has held out no later stage trains on."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelwright.curation.keys.hashing import Hasher
from reelwright.curation.keys.sorted_keys import KEY, shares
from reelwright.curation.keys.sorter import Sorter
from reelwright.training.data.spool import scratch, stretches

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
    clips, named = _texts(clip_ids), _texts(sources)

    def units(here: slice, by_source: bool) -> pa.Array:
        ids, of = (column.slice(here.start, here.stop - here.start) for column in (clips, named))
        return pc.if_else(pc.fill_null(pc.not_equal(of, ""), False), of, ids) if by_source else ids

    by_source = share > 0 and _are_enough((units(here, True) for here in stretches(len(clips))), SOURCES_HELD / share)
    kind: Literal["source", "clip"] = "source" if by_source else "clip"
    keys, held, alive = scratch(len(clips), np.uint64), scratch(len(clips), bool), list[np.uint64]()
    if share == 0:
        return kind, held
    for here in stretches(len(clips)):
        names = units(here, by_source).dictionary_encode()
        keys[here] = hashes(name.as_py() for name in names.dictionary)[names.indices.to_numpy()]
        some = keys[here][usable[here]]
        alive += [some.min(), some.max()] if len(some) else []
    if not alive or min(alive) == max(alive):
        return kind, held
    bound = np.uint64(share * 2**64)
    for here in stretches(len(clips)):
        held[here] = keys[here] < bound
        if min(alive) >= bound:
            held[here] |= keys[here] == min(alive)
        if max(alive) < bound:
            held[here] &= keys[here] != max(alive)
    return kind, held


def _texts(names: Sequence[str | None] | pa.Array) -> pa.Array:
    return names.cast(pa.large_string()) if isinstance(names, pa.Array) else pa.array(names, pa.large_string())


def _are_enough(units: Iterable[pa.Array], least: float) -> bool:
    """Whether there are so many units, and some of several clips. units: of all clips, by stretches."""
    names, keys, hasher = set[str](), Sorter(np.dtype(KEY)), Hasher()
    is_repeated = False
    for some in units:
        own = some.unique()
        is_repeated = is_repeated or len(own) < len(some)
        if len(names) < least:
            names.update(own.to_pylist())
        if is_repeated and len(names) >= least:
            return True
        if not is_repeated:
            keys.add(_records(*hasher(own)))
    is_repeated = is_repeated or any(shares(part).any() for part in keys.parts())
    return is_repeated and len(names) >= least


def _records(upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    out = np.empty(len(upper), KEY)
    out["upper"], out["lower"] = upper, lower
    return out


def hashes(names: Iterable[str]) -> np.ndarray:
    """uint64 of each name, the same everywhere and always."""
    digests = b"".join(hashlib.blake2b(n.encode("utf-8", "surrogatepass"), digest_size=8).digest() for n in names)
    return np.frombuffer(digests, "<u8")
