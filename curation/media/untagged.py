"""An mp4 without what it says of itself: titles, comments and times may tell who made it, and when.

The boxes that hold them are left out (ISO 14496-12: `udta`, `meta`, `uuid`), times are 0, and the tables of where
pictures lie are shifted. Nothing is decoded, and of the pictures nothing is read before it is asked for.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import BinaryIO, Protocol, cast

import numpy as np

from reelwright.curation.media.errors import MediaError
from reelwright.curation.media.protection import boxes

PARENTS = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
TAGS = (b"udta", b"meta", b"uuid")
TIMED = (b"mvhd", b"tkhd", b"mdhd")
PLACES = {b"stco": ">u4", b"co64": ">u8"}
FRAGMENTS = (b"moof", b"sidx", b"mfra")
MAX_DEPTH = 6
MAX_INDEX = 64 << 20  # bytes of `moov`
LOOK = 16 << 10  # bytes that are read at a time while boxes are looked at


class Ranged(Protocol):
    """A file of known size of which any part can be read."""

    @property
    def size(self) -> int:
        """Its bytes."""

    def read_range(self, start: int, length: int) -> bytes:
        """Return `length` bytes from `start`; fewer where it ends before."""


class Untagged:
    """A video without its tags and times, of which any part can be read. size: bytes.

    Args:
        video: an mp4 that is not in fragments.

    Raises:
        MediaError: it is in fragments, or its index is larger than 64 MiB.
    """

    def __init__(self, video: Ranged) -> None:
        self._video, self.size = video, 0
        self._pieces: list[tuple[int, int, bytes | int]] = []
        """(where it begins here, its length, its bytes or where it begins in the video)."""
        with io.BufferedReader(_Parts(video), LOOK) as file:
            self._lay_out(cast(BinaryIO, file))

    def read(self, start: int, count: int) -> bytes:
        """Return `count` bytes from `start`; fewer where the video ends before."""
        found = []
        for at, length, source in self._pieces:
            first, last = max(start, at) - at, min(start + count, at + length) - at
            if first < last:
                is_copy = isinstance(source, int)
                found.append(self._video.read_range(source + first, last - first) if is_copy else source[first:last])  # type: ignore[operator,index]
        return b"".join(found)

    def _lay_out(self, file: BinaryIO) -> None:
        left_out = _Spans(_tags(file, 0, self._video.size))
        head = 0
        for kind, _, ends in boxes(file, 0, self._video.size):
            tail = min(ends, self._video.size)
            if kind in FRAGMENTS:
                raise MediaError("open", "a video in fragments cannot be shown without its tags")
            if kind == b"moov":
                if tail - head > MAX_INDEX:
                    raise MediaError("limit", f"the video's index has more than {MAX_INDEX >> 20} MiB")
                file.seek(head)
                self._add(_index(file.read(tail - head), head, left_out))
            elif kind not in TAGS:
                self._add(head, tail - head)
            head = ends

    def _add(self, source: bytes | int, length: int | None = None) -> None:
        size = len(source) if isinstance(source, bytes) else length or 0
        self._pieces.append((self.size, size, source))
        self.size += size


def untagged(mp4: bytes) -> bytes:
    """Return an mp4 without its tags and times. Raises MediaError as `Untagged` does."""
    found = Untagged(_Whole(mp4))
    return found.read(0, found.size)


class _Spans:
    """Parts of a file that are left out, in order."""

    def __init__(self, spans: Iterator[tuple[int, int]]) -> None:
        pairs = np.array([*spans], np.int64).reshape(-1, 2)
        self.starts, self.ends = pairs[:, 0], pairs[:, 1]
        self._before = np.concatenate([[0], np.cumsum(self.ends - self.starts)])

    def moved(self, places: np.ndarray) -> np.ndarray:
        """Return where places of the file lie without what is left out."""
        return places - self._before[np.searchsorted(self.ends, places, side="right")]

    def inside(self, start: int, end: int) -> int:
        """Return how many bytes are left out between two places."""
        return int((self.ends - self.starts)[(self.starts >= start) & (self.ends <= end)].sum())


def _tags(file: BinaryIO, start: int, end: int, depth: int = 0) -> Iterator[tuple[int, int]]:
    head = start
    for kind, begins, ends in boxes(file, start, end):
        if kind in TAGS:
            yield head, min(ends, end)
        elif kind in PARENTS and depth < MAX_DEPTH:
            yield from _tags(file, begins, min(ends, end), depth + 1)
        head = ends


def _index(moov: bytes, at: int, left_out: _Spans) -> bytes:
    """Return `moov` without tags and times, its places shifted. at: where it begins in the file."""
    found = bytearray(moov)
    _patch(found, 0, len(found), at, left_out)
    for start, end in zip(left_out.starts[::-1].tolist(), left_out.ends[::-1].tolist(), strict=True):
        if at <= start and end <= at + len(moov):
            del found[start - at : end - at]
    return bytes(found)


def _patch(data: bytearray, start: int, end: int, at: int, left_out: _Spans, depth: int = 0) -> None:
    head = start
    for kind, begins, ends in boxes(io.BytesIO(data), start, end):
        inside = min(ends, end)
        if kind in TIMED:  # a version, flags, then both times, of 4 bytes or of 8
            times = 16 if data[begins : begins + 1] == b"\1" else 8
            data[begins + 4 : begins + 4 + times] = bytes(times)
        elif kind in PLACES:  # a version, flags, a count, then the places
            table, width = PLACES[kind], np.dtype(PLACES[kind]).itemsize
            stated = int.from_bytes(data[begins + 4 : begins + 8], "big")
            entries = bytes(data[begins + 8 : inside])[: stated * width]
            places = np.frombuffer(entries[: len(entries) // width * width], table).astype(np.int64)
            moved = left_out.moved(places).astype(table).tobytes()
            data[begins + 8 : begins + 8 + len(moved)] = moved
        elif kind in PARENTS and depth < MAX_DEPTH:
            _patch(data, begins, inside, at, left_out, depth + 1)
            if removed := left_out.inside(at + begins, at + inside):
                where = slice(head, head + 4) if begins - head == 8 else slice(head + 8, head + 16)
                stated = int.from_bytes(data[where], "big")
                data[where] = max(0, stated - removed).to_bytes(where.stop - where.start, "big")  # 0: to the end
        head = ends


class _Whole:
    def __init__(self, data: bytes) -> None:
        self._data, self.size = data, len(data)

    def read_range(self, start: int, length: int) -> bytes:
        return self._data[start : start + length]


class _Parts(io.RawIOBase):
    """A ranged file as one that seeks."""

    def __init__(self, video: Ranged) -> None:
        self._video, self._at = video, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._video.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        part = self._video.read_range(self._at, len(buffer)) if self._at < self._video.size else b""
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)
