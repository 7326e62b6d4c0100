"""Records sorted by a 128-bit key, in memory or in a file of which the parts that are asked for are read."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

KEY = [("upper", "<u8"), ("lower", "<u8")]
PARTS = 256  # by the first byte of a key: what is joined at a time
RECORDS_A_BUCKET = 512  # about so many are read to find one
IN_MEMORY = 32 * 2**20  # bytes of records that are not put on disk
FOOTER = np.dtype([("count", "<i8"), ("bits", "<i8")])


class SortedKeys:
    """Records by key. Make one with `write` or `load`.

    Args:
        kind: of a record; it begins with KEY.
        starts: int64 [2**bits + 1], the first record of each bucket, a range of keys.
        held: the records, or a file that begins with them.
    """

    def __init__(self, kind: np.dtype, starts: np.ndarray, held: np.ndarray | BinaryIO) -> None:
        self.kind, self._starts, self._held = kind, starts, held
        self._bits = (len(starts) - 1).bit_length() - 1

    def __len__(self) -> int:
        return int(self._starts[-1])

    def part(self, number: int) -> np.ndarray:
        """Return the records of one of PARTS ranges of keys, sorted."""
        wide = (len(self._starts) - 1) // PARTS
        return self._read(self._starts[number * wide], self._starts[(number + 1) * wide])

    def find(self, upper: np.uint64, lower: np.uint64) -> np.ndarray:
        """Return the records with this key."""
        bucket = int(upper) >> (64 - self._bits)
        near = self._read(self._starts[bucket], self._starts[bucket + 1])
        return near[(near["upper"] == upper) & (near["lower"] == lower)]

    def all(self) -> np.ndarray:
        """Return all records."""
        return self._read(0, len(self))

    def _read(self, start: int, end: int) -> np.ndarray:
        if isinstance(self._held, np.ndarray):
            return self._held[start:end]
        return read_records(self._held, self.kind, int(start), int(end))


def read_records(file: BinaryIO, kind: np.dtype, start: int, end: int) -> np.ndarray:
    """Return records [start, end) of a file that begins with records."""
    wanted, pieces = (end - start) * kind.itemsize, list[bytes]()
    while wanted > (got := sum(map(len, pieces))):  # a read may give less than was asked for
        piece = os.pread(file.fileno(), wanted - got, start * kind.itemsize + got)
        if not piece:
            raise OSError(f"{file.name} ends early")
        pieces.append(piece)
    return np.frombuffer(pieces[0] if len(pieces) == 1 else b"".join(pieces), kind)


def write(parts: Iterable[np.ndarray], most: int, kind: np.dtype, path: Path | None = None) -> SortedKeys:
    """Keep sorted records.

    Args:
        parts: PARTS of them, in order, each sorted.
        most: how many records there are, at most.
        kind: of a record.
        path: a new file; default: memory, or a file without a name where they are many.
    """
    bits = max(PARTS.bit_length() - 1, (most // RECORDS_A_BUCKET).bit_length())
    counts = np.zeros(2**bits, np.int64)

    def counted() -> Iterator[np.ndarray]:
        for part in parts:
            if len(part):
                here = np.bincount((part["upper"] >> np.uint64(64 - bits)).astype(np.int64))
                counts[: len(here)] += here
            yield part

    if path is None and most * kind.itemsize <= IN_MEMORY:
        held: Any = np.concatenate([np.zeros(0, kind), *counted()])
        return SortedKeys(kind, _starts(counts), held)
    file: Any = open(path, "w+b") if path is not None else tempfile.TemporaryFile(prefix="reel-")  # noqa: SIM115
    for part in counted():
        part.tofile(file)
    starts = _starts(counts)
    starts.tofile(file)
    np.array([(starts[-1], bits)], FOOTER).tofile(file)
    file.flush()
    return SortedKeys(kind, starts, file)


def load(path: Path, kind: np.dtype) -> SortedKeys:
    """Open what `write` put into a file. Raises OSError or ValueError where it is not whole."""
    file = open(path, "rb")  # noqa: SIM115 - read from as long as the records are asked for
    size = os.fstat(file.fileno()).st_size
    footer = np.fromfile(file, FOOTER, 1, offset=max(0, size - FOOTER.itemsize))
    count, bits = footer[0].tolist() if len(footer) else (0, -1)
    if not 0 <= bits < 40 or size != count * kind.itemsize + (2**bits + 1) * 8 + FOOTER.itemsize:
        raise ValueError(f"{path} is no file of sorted keys")
    file.seek(count * kind.itemsize)
    return SortedKeys(kind, np.fromfile(file, np.int64, 2**bits + 1), file)


def _starts(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])


def sort(records: np.ndarray) -> np.ndarray:
    """Return records by key; those with one key stay in their order."""
    found = records.take(np.argsort(records["upper"], kind="stable"))  # several times as fast as records[…]
    upper, lower = found["upper"], found["lower"]
    if ((upper[1:] == upper[:-1]) & (lower[1:] < lower[:-1])).any():  # halves that two keys share: hardly ever
        return found.take(np.lexsort((lower, upper)))
    return found


def begins(records: np.ndarray) -> np.ndarray:
    """Return bool [N]: whether a sorted record is the first with its key."""
    first = np.ones(len(records), bool)
    for half in ("upper", "lower"):
        column = records[half]
        first[1:] = column[1:] != column[:-1] if half == "upper" else first[1:] | (column[1:] != column[:-1])
    return first


def shares(records: np.ndarray) -> np.ndarray:
    """Return bool [N]: which sorted records have a key that others have too."""
    first = begins(records)
    return ~first | np.append(~first[1:], False)[: len(records)]


def match(asked: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return int64 [N]: for each sorted record the first of the sorted `known` with its key; -1 where there is none."""
    found = np.full(len(asked), -1, np.int64)
    upper, wanted = np.ascontiguousarray(known["upper"]), np.ascontiguousarray(asked["upper"])
    at = np.searchsorted(upper, wanted)
    there = np.flatnonzero(at < len(known))
    there = there[upper[at[there]] == wanted[there]]
    same = known["lower"][at[there]] == asked["lower"][there]
    found[there[same]] = at[there[same]]
    for n in there[~same]:  # halves that two keys share
        end = np.searchsorted(upper, wanted[n], "right")
        hits = np.flatnonzero(known["lower"][at[n] : end] == asked["lower"][n])
        found[n] = at[n] + hits[0] if len(hits) else -1
    return found
