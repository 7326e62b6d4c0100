"""Parts of a video over HTTP (RFC 9110, section 14): a player asks for the bytes it needs, and seeking works."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Protocol

from starlette.responses import Response, StreamingResponse

CHUNK = 256 << 10  # bytes that are read from the store at a time
RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class Bytes(Protocol):
    """Something of known size of which any part can be read."""

    @property
    def size(self) -> int:
        """Its bytes."""

    def read(self, start: int, count: int) -> bytes:
        """Return `count` bytes from `start` on."""


def part(header: str | None, size: int) -> tuple[int, int] | None:
    """Return (first byte, byte after the last) that a Range header asks for; None where it cannot be satisfied.

    A header that is none, or asks for several parts, gets the whole, as the RFC allows.
    """
    found = RANGE.fullmatch(header.strip()) if header and len(header) < 100 else None
    if found is None or not (found[1] or found[2]):
        return 0, size
    if not found[1]:  # the last so many
        return (max(0, size - int(found[2])), size) if int(found[2]) and size else None
    first, end = int(found[1]), int(found[2]) + 1 if found[2] else size
    if found[2] and end <= first:
        return 0, size
    return (first, min(end, size)) if first < size else None


def ranged(content: Bytes, header: str | None, *, media_type: str, etag: str, is_head: bool = False) -> Response:
    """Answer a request for a video, or for a part of one.

    Args:
        content: the video.
        header: the request's Range.
        media_type: such as video/mp4.
        etag: names the content: it never changes under this name.
        is_head: whether only the headers are asked for.
    """
    asked = part(header, content.size)
    headers = {"accept-ranges": "bytes", "etag": f'"{etag}"', "cache-control": "private, max-age=3600"}
    if asked is None:
        return Response(status_code=416, headers={**headers, "content-range": f"bytes */{content.size}"})
    start, end = asked
    headers["content-length"] = str(end - start)
    is_part = (start, end) != (0, content.size) or bool(header and RANGE.fullmatch(header.strip()))
    if is_part:
        headers["content-range"] = f"bytes {start}-{end - 1}/{content.size}"
    status = 206 if is_part and content.size else 200
    if is_head:
        return Response(status_code=status, headers=headers, media_type=media_type)
    return StreamingResponse(_chunks(content, start, end), status, headers, media_type)


def _chunks(content: Bytes, start: int, end: int) -> Iterator[bytes]:
    for at in range(start, end, CHUNK):
        yield content.read(at, min(CHUNK, end - at))
