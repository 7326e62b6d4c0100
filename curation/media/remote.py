"""Bytes behind a URI, through fsspec: read once from end to end, or as a file that a demuxer may seek in."""

import shutil
import tempfile
from typing import Any

from reelwright.curation.media.errors import MediaError
from reelwright.curation.media.sandbox_child import report_progress

BLOCK_BYTES = 4 << 20
MAX_DOWNLOAD_BYTES = 64 << 30
KEPT_FREE_BYTES = 1 << 30  # of the disk that a download goes to
WEB = ("http://", "https://")


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
        raise MediaError("io", f"cannot read {uri}: {error or type(error).__name__}") from error


def _open(uri: str, block_bytes: int) -> Any:
    """Open a file by the file system's `open`, which takes a block size in all of them.

    `fsspec.open` hands the block size to the file system's constructor, and some of those hand it on to a library that
    has no such option (seen: s3fs).
    """
    import fsspec

    files, path = fsspec.core.url_to_fs(uri)
    return files.open(path, "rb", block_size=block_bytes)


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
