"""Bytes behind a URI, through fsspec: read once from end to end, or as a file that a demuxer may seek in.

What is read from end to end is copied to the worker's disk, if the run has a cache; later steps read the copy.
"""

import errno
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from reelwright.curation import usage
from reelwright.curation.media.errors import MediaError
from reelwright.curation.media.input_cache import InputCache
from reelwright.curation.media.sandbox_child import report_progress
from reelwright.curation.signed import is_signed, link_of, without_signatures

BLOCK_BYTES = 4 << 20
MAX_DOWNLOAD_BYTES = 64 << 30
KEPT_FREE_BYTES = 1 << 30  # of the disk that a download goes to
WEB = ("http://", "https://")
PATIENCE_S = 60.0
"""How long an object store is asked again whose errors pass, beyond the file system's own tries of some 10 s."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 15.0
PASSING_NUMBERS = {errno.EBUSY, errno.EIO, errno.EAGAIN, errno.ETIMEDOUT, errno.ECONNRESET, errno.EPIPE,
                   errno.EREMOTEIO}  # fmt: skip
PASSING_NAMES = {"HTTPClientError", "ConnectionError", "TimeoutError", "ClientConnectionError", "ClientPayloadError",
                 "FSTimeoutError", "IncompleteRead", "ResponseParserError"}  # fmt: skip
"""Classes of errors that pass, of the libraries below fsspec."""
_cache: InputCache | None = None
Found = TypeVar("Found")


def use_cache(cache: InputCache | None) -> None:
    """Read copies of this cache, and add to it, from now on."""
    global _cache  # noqa: PLW0603 - one run at a time per process
    _cache = cache


def read_through(uri: str) -> Iterator[bytes]:
    """Yield a file's bytes from its beginning, and keep a copy of them in the cache.

    Errors of the file system pass through.
    """
    cache = _cache or InputCache("none", 0)
    with open_stream(uri) as stream, cache.keeping(uri, getattr(stream, "size", None)) as copy:
        for block in _blocks(stream):
            copy.write(block)
            yield block


def fetch_copy(uri: str) -> None:
    """Copy a file to the cache, where there is one with room for it and no copy yet.

    Raises:
        MediaError: `io`.
    """
    if _cache is None or _has_copy(_cache, uri):
        return
    try:
        with open_stream(uri) as stream, _cache.keeping(uri, getattr(stream, "size", None)) as copy:
            for block in _blocks(stream) if copy.takes else ():
                copy.write(block)
                report_progress(None)
    except Exception as error:  # each file system has its own
        raise _unread(uri, error) from (None if is_signed(uri) else error)


def _has_copy(cache: InputCache, uri: str) -> bool:
    copy = cache.open(uri)
    if copy is not None:
        copy.close()
    return copy is not None


def _blocks(stream: Any) -> Iterator[bytes]:
    while block := stream.read(BLOCK_BYTES):
        yield block


def open_stream(uri: str) -> Any:
    """Open a file that is read once from its beginning.

    It is one request on the web, so the server needs no ranges. Errors of the file system pass through.
    """
    return _open(uri, 0 if _is_web(uri) else BLOCK_BYTES)


def open_seekable(uri: str) -> Any:
    """Open a file that can be seeked in.

    Where a server answers no request for a range of bytes, a copy without a name is made in the folder for temporary
    files.

    Raises:
        MediaError: `io`.
    """
    if _cache is not None and (copy := _cache.open(uri)) is not None:
        return copy
    try:
        file = _open(uri, BLOCK_BYTES)
        if not _is_web(uri) or _answers_ranges(file):
            return file
        file.close()
        with open_stream(uri) as stream:
            return _downloaded(uri, stream)
    except MediaError:
        raise
    except Exception as error:  # each file system has its own
        raise _unread(uri, error) from (None if is_signed(uri) else error)


def _unread(uri: str, error: Exception) -> MediaError:
    """Return the error of a file that cannot be read; libraries put a whole link into their messages."""
    reason = without_signatures(str(error)) or type(error).__name__
    return MediaError("io", f"cannot read {uri}: {reason}")


def _open(uri: str, block_bytes: int) -> Any:
    """Open a file by the file system's `open`, which takes a block size in all of them.

    `fsspec.open` hands the block size to the file system's constructor, and some of those hand it on to a library that
    has no such option (seen: s3fs).
    """
    import fsspec

    files, path = fsspec.core.url_to_fs(link_of(uri))
    return count_reads(uri, patiently(uri, lambda: files.open(path, "rb", block_size=block_bytes)))


def count_reads(uri: str, file: Any) -> Any:
    """Count the request that opened a file of fsspec, and from now on its reads; return it."""
    usage.note_request()
    cache = getattr(file, "cache", None)
    if cache is not None and callable(getattr(cache, "fetcher", None)):
        cache.fetcher = _counted(uri, cache.fetcher)
    else:
        file.read = _counted_reads(file.read)
    return file


def _counted(uri: str, fetch_range: Callable[..., bytes]) -> Callable[..., bytes]:
    """Count the requests for ranges of a file, and ask again where a server fails for a while."""

    def counted(start: int, end: int, *rest: Any, **more: Any) -> bytes:
        found = patiently(uri, lambda: fetch_range(start, end, *rest, **more))
        usage.note_request(1, len(found))
        return found

    return counted


def _counted_reads(read: Callable[..., bytes]) -> Callable[..., bytes]:
    """Count the bytes of a file that comes as one answer."""

    def counted(*arguments: Any) -> bytes:
        found = read(*arguments)
        usage.note_request(0, len(found))
        return found

    return counted


def patiently(uri: str, ask: Callable[[], Found]) -> Found:
    """Ask an object store until it answers: its being busy passes, and so do broken connections.

    The time of waiting is progress: the process is not stuck. Servers of the web are asked once.
    """
    ends, pause_s = time.monotonic() + PATIENCE_S, FIRST_PAUSE_S
    while True:
        try:
            return ask()
        except Exception as error:  # each file system has its own
            if _is_web(uri) or not _passes(error) or time.monotonic() + pause_s > ends:
                raise
        until = time.monotonic() + pause_s
        while time.monotonic() < until:
            report_progress(None)
            time.sleep(min(0.5, pause_s))
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def _passes(error: Exception) -> bool:
    """Return whether a server may answer the same question later."""
    if isinstance(error, OSError) and error.errno in PASSING_NUMBERS:
        return True
    return not PASSING_NAMES.isdisjoint(kind.__name__ for kind in type(error).__mro__)


def _is_web(uri: str) -> bool:
    return uri.lower().startswith(WEB)


def _answers_ranges(file: Any) -> bool:
    """Asked for its last byte, since a server may say one thing and do another."""
    if not file.size:
        return False
    try:
        file.seek(file.size - 1)
        found = len(file.read(1)) == 1
        file.seek(0)
    except (ValueError, NotImplementedError):  # "doesn't appear to support range requests", "cannot seek"
        return False
    return found


def _downloaded(uri: str, stream: Any) -> Any:
    """Copy `stream` to a file that is gone with this process, however that ends."""
    copy, size = tempfile.TemporaryFile(prefix="reel-"), 0  # noqa: SIM115 - the caller closes it
    try:
        while block := stream.read(BLOCK_BYTES):
            size += len(block)
            if size > MAX_DOWNLOAD_BYTES or shutil.disk_usage(tempfile.gettempdir()).free < KEPT_FREE_BYTES:
                raise MediaError(
                    "io",
                    f"{uri}: its server answers no request for a part of a file, and at {size >> 20} MiB the copy "
                    f"fills {tempfile.gettempdir()} or exceeds {MAX_DOWNLOAD_BYTES >> 30} GiB; download it and name "
                    "the file",
                )
            copy.write(block)
            report_progress(None)
        copy.seek(0)
    except BaseException:
        copy.close()
        raise
    return copy
