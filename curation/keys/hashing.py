"""Texts as two halves, uint64 each, that no two texts share."""

from __future__ import annotations

import functools
import hashlib
import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

HASH_DIGITS = 32
IS_HASH = re.compile(f"[0-9a-f]{{{HASH_DIGITS}}}")
DIGIT = np.full(256, 255, np.uint8)
DIGIT[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16)


class Hasher:
    """Hashes columns of texts: a hash stands for its own digits, any other text for its MD5."""

    def __init__(self) -> None:
        self._duckdb = _connection().cursor()

    def __call__(self, texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:  # noqa: D102 - as the class says
        if not len(texts):
            return np.zeros(0, np.uint64), np.zeros(0, np.uint64)
        if pc.any(pc.equal(pc.binary_length(texts), HASH_DIGITS)).as_py():
            return _digits(texts) or _each(texts)
        self._duckdb.register("texts", pa.table({"t": texts}))
        halves_of = f"(md5_number(t) >> 64)::UBIGINT, (md5_number(t) & {2**64 - 1}::UHUGEINT)::UBIGINT"
        upper, lower = self._duckdb.execute(f"SELECT {halves_of} FROM texts").fetchnumpy().values()
        return upper, lower


@functools.cache
def _connection() -> Any:
    import duckdb

    return duckdb.connect(":memory:", config={"autoinstall_known_extensions": False})


@functools.lru_cache(maxsize=1024)
def halves(text: str) -> tuple[np.uint64, np.uint64]:
    """Return what `Hasher` gives for one text."""
    number = int(text, 16) if IS_HASH.fullmatch(text) else _md5_number(text)
    return np.uint64(number >> 64), np.uint64(number & (2**64 - 1))


def hash_of(upper: int, lower: int) -> str:
    """Return the hash whose digits have these halves."""
    return f"{(int(upper) << 64) + int(lower):0{HASH_DIGITS}x}"


def _md5_number(text: str) -> int:
    return int.from_bytes(hashlib.md5(text.encode(), usedforsecurity=False).digest(), "little")


def _digits(texts: pa.Array) -> tuple[np.ndarray, np.ndarray] | None:
    """Read hashes written as HASH_DIGITS small hexadecimal digits; None if any is another text."""
    if not pc.all(pc.equal(pc.binary_length(texts), HASH_DIGITS)).as_py():
        return None
    joined = texts.cast(pa.large_string())
    first = joined.slice(0, 1).buffers()[1]
    start = int(np.frombuffer(first, np.int64)[joined.offset])
    data = np.frombuffer(joined.buffers()[2], np.uint8, HASH_DIGITS * len(joined), start)
    digits = DIGIT[data.reshape(len(joined), HASH_DIGITS)]
    if (digits > 15).any():
        return None
    numbers = (digits[:, ::2] << 4 | digits[:, 1::2]).view(">u8")
    return numbers[:, 0].astype(np.uint64), numbers[:, 1].astype(np.uint64)


def _each(texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """For texts of which some are hashes and others are not, one by one."""
    upper, lower = zip(*map(halves, texts.to_pylist()), strict=True)
    return np.array(upper, np.uint64), np.array(lower, np.uint64)
