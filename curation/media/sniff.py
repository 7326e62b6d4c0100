"""The kind of a file that no demuxer takes for a video: empty, a web page, a pointer, a playlist, a picture, cut off.

A bounded look at its first bytes and at an MP4's boxes; nothing is decoded.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import Any, BinaryIO

from reelwright.curation.media.errors import Kind, MediaError
from reelwright.curation.media.pictures import is_animated_webp, is_webp
from reelwright.curation.media.protection import BOX_TYPES, HEAD_BYTES, TS_PACKET, boxes, protection_of

PICTURE_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"mif1", b"msf1", b"avif", b"avis", b"crx ", b"jp2 ", b"jpx ")
SOUND_BRANDS = (b"M4A ", b"M4B ", b"M4P ", b"aax ")
VIDEOS = (
    (b"FLV\x01", "flv"), (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"), (b"\x00\x00\x01\xba", "mpeg"),
    (b"\x00\x00\x01\xb3", "mpeg"), (b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02", "mxf"), (b"DHAV", "dav"),
    (b"DKIF", "ivf"), (b"YUV4MPEG2 ", "y4m"), (b".RMF", "rm"), (b"nut/multimedia container", "nut"),
)  # fmt: skip
"""First bytes -> container, of the containers that need no second look."""

NO_VIDEOS: tuple[tuple[bytes, Kind, str], ...] = (
    *((magic, "not_video", f"it is a packed file ({name}); unpack it") for magic, name in (
        (b"PK\x03\x04", "zip"), (b"\x1f\x8b", "gzip"), (b"7z\xbc\xaf\x27\x1c", "7z"), (b"Rar!\x1a\x07", "rar"),
        (b"\xfd7zXZ\x00", "xz"), (b"BZh", "bzip2"), (b"\x28\xb5\x2f\xfd", "zstd"))),
    *((magic, "not_video", f"it is a picture ({name})") for magic, name in (
        (b"\xff\xd8\xff", "JPEG"), (b"\x89PNG\r\n\x1a\n", "PNG"), (b"BM", "BMP"), (b"II*\x00", "TIFF"),
        (b"MM\x00*", "TIFF"), (b"8BPS", "Photoshop"), (b"\x00\x00\x00\x0cjP  ", "JPEG 2000"))),
    *((magic, "no_video", f"it is sound only ({name})") for magic, name in (
        (b"ID3", "MP3"), (b"\xff\xfb", "MP3"), (b"\xff\xf3", "MP3"), (b"\xff\xf1", "AAC"), (b"\xff\xf9", "AAC"),
        (b"fLaC", "FLAC"), (b"MThd", "MIDI"), (b"#!AMR", "AMR"), (b"caff", "CAF"), (b"FORM", "AIFF"))),
    *((magic, "not_video", f"it is {words}") for magic, words in (
        (b"%PDF", "a PDF document"), (b"\x7fELF", "a program"), (b"MZ", "a program"), (b"PAR1", "a Parquet file"),
        (b"SQLite format 3", "a database"), (b"\x89HDF\r\n", "an HDF5 file"), (b"\x93NUMPY", "a NumPy array"),
        (b"\xd0\xcf\x11\xe0", "an Office document"))),
)  # fmt: skip
PLAYLISTS = (
    ("#extm3u", "HLS or M3U"), ("#extinf", "HLS or M3U"), ("ffconcat", "ffmpeg's concat"), ("[playlist]", "PLS"),
    ("v=0\no=", "SDP"), ("<asx", "ASX"), ("<smil", "SMIL"), ("<mpd", "DASH"), ("<playlist", "XSPF"),
    ("<smoothstreamingmedia", "Smooth Streaming"),
)  # fmt: skip
WEB_PAGE = ("<!doctype html", "<html", "<head", "<body")


def file_looks_like(path: str) -> str | None:
    """Name the video container of a local file by its first bytes; None for other and unreadable files."""
    try:
        with open(path, "rb") as file:
            return looks_like(file.read(4 * TS_PACKET))
    except OSError:
        return None


def looks_like(head: bytes) -> str | None:
    """Name the video container that these first bytes belong to."""
    found = next((name for magic, name in VIDEOS if head.startswith(magic)), None)
    if head[4:8] == b"ftyp":
        found = None if head[8:12] in PICTURE_BRANDS + SOUND_BRANDS else "mp4"
    elif head[4:8] in (b"moov", b"mdat", b"wide", b"styp") and int.from_bytes(head[:4], "big") >= 8:
        found = "mov"
    elif head.startswith(b"\x1aE\xdf\xa3"):
        found = "webm" if b"webm" in head[:64] else "mkv"
    elif head.startswith(b"RIFF") and head[8:12] in (b"AVI ", b"AVIX"):
        found = "avi"
    elif any(
        len(head) > offset + 2 * size and all(head[offset + i * size] == 0x47 for i in range(3))
        for size, offset in ((TS_PACKET, 0), (192, 4))
    ):
        found = "mpegts"
    return found


def why_not_opened(uri: str, file: Any, reason: str) -> MediaError:
    """Explain why no demuxer opened a file.

    Args:
        uri: path or URI of the file.
        file: the open binary file; None for a local path.
        reason: the demuxer's own words.
    """
    with contextlib.suppress(Exception), _looked_at(uri, file) as (stream, size):
        return _why(stream, size, reason)
    return MediaError("open", f"not a readable video file ({reason})")


def why_no_video(uri: str) -> MediaError:
    """Explain why a file that opened has no video stream: an MP4 may have been cut off in its index."""
    if "://" not in uri:
        with contextlib.suppress(Exception), _looked_at(uri, None) as (stream, size):
            if any(kind == b"moov" and ends > size for kind, _, ends in boxes(stream, 0, size)):
                return MediaError("truncated", "its index (moov) is cut off: a download or a copy that broke off")
    return MediaError("no_video", "the file has no video stream")


def refuse_protected(uri: str, file: Any) -> None:
    """Raise MediaError (`encrypted`) for a file that opens and says that its pictures are encrypted.

    Args:
        uri: path or URI of the file.
        file: the open binary file; its position is kept. None for a local path.
    """
    stood, found = file.tell() if file is not None else 0, None
    with contextlib.suppress(OSError, ValueError), _looked_at(uri, file) as (stream, size):
        stream.seek(0)
        found = protection_of(stream, size, looks_like(stream.read(4 * TS_PACKET)))
    if file is not None:
        file.seek(stood)
    if found:
        raise _protected(found)


def why_not_a_file(path: str) -> MediaError:
    """Name the kind of a local path that is no regular file."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        if os.path.islink(path):
            return MediaError("io", f"{path} is a link to {os.readlink(path)}, which does not exist")
        return MediaError("io", f"{path} does not exist")
    except (OSError, ValueError) as error:
        return MediaError("io", f"{path} cannot be read ({getattr(error, 'strerror', None) or error})")
    return MediaError("io", f"{path} is {'a folder' if stat.S_ISDIR(mode) else 'not a regular file'}")


def first_bytes(uri: str, file: Any, count: int = 32) -> bytes:
    """Return how a file begins, and leave it there. file: as for `why_not_opened`. Raises OSError."""
    with _looked_at(uri, file) as (stream, _):
        stream.seek(0)
        head = stream.read(count)
        stream.seek(0)
        return bytes(head)


@contextlib.contextmanager
def _looked_at(uri: str, file: Any) -> Iterator[tuple[Any, int]]:
    """Yield (an open file, its size in bytes)."""
    if file is not None:
        yield file, file.seek(0, os.SEEK_END)
        return
    with open(uri, "rb") as local:
        yield local, local.seek(0, os.SEEK_END)


def _why(file: BinaryIO, size: int, reason: str) -> MediaError:
    file.seek(0)
    head = file.read(HEAD_BYTES)
    container = looks_like(head)
    if not head:
        return MediaError("empty", "the file has 0 bytes")
    if not head.strip(b"\0"):
        return MediaError("truncated", "it begins with zeros only: a download or a copy that was not finished")
    if scheme := protection_of(file, size, container):
        return _protected(scheme)
    known = _of_text(head) or _of_magic(head) or (_of_boxes(file, size, head) if head[4:8] in BOX_TYPES else None)
    if known:
        return MediaError(known.kind, f"{known.message} ({reason})" if known.kind in ("open", "truncated") else
                          known.message)  # fmt: skip
    if container:
        return MediaError("truncated", f"it begins as {container} and cannot be read: cut off or damaged ({reason})")
    return MediaError("open", f"no format that is known: damaged, encrypted, or no video ({reason})")


def _protected(scheme: str) -> MediaError:
    return MediaError("encrypted", f"it is protected ({scheme}); its frames cannot be decoded")


def _of_magic(head: bytes) -> MediaError | None:
    if head[257:262] == b"ustar":
        return MediaError("not_video", "it is a packed file (tar); unpack it")
    if is_animated_webp(head):
        return MediaError("open", "it is an animated WebP, which cannot be decoded here; convert it to MP4 or GIF")
    if is_webp(head):
        return MediaError("not_video", "it is a picture (WebP)")
    if head.startswith(b"RIFF") and head[8:12] == b"WAVE":
        return MediaError("no_video", "it is sound only (WAV)")
    return next((MediaError(kind, words) for magic, kind, words in NO_VIDEOS if head.startswith(magic)), None)


def _of_boxes(file: BinaryIO, size: int, head: bytes) -> MediaError:
    if head[4:8] == b"ftyp" and head[8:12] in PICTURE_BRANDS:
        return MediaError("not_video", f"it is a picture ({head[8:12].decode().strip()})")
    found = list(boxes(file, 0, size))
    if not {b"moov", b"moof"}.intersection(kind for kind, _, _ in found):
        return MediaError("truncated", "its index (moov) is missing: a download, a copy or a recording that broke off")
    if any(ends > size for _, _, ends in found):
        return MediaError("truncated", "it is cut off: what it announces reaches beyond its end")
    return MediaError("open", "an MP4 whose boxes are damaged")


# --- text ------------------------------------------------------------------------------------------------------------


def _of_text(head: bytes) -> MediaError | None:
    text = _as_text(head)
    if text is None:
        return None
    start = text.lstrip("\ufeff \t\r\n").lower().replace("\r\n", "\n")
    playlist = next((name for words, name in PLAYLISTS if _begins(start, words)), None)
    if start.startswith("version https://git-lfs.github.com/spec"):
        return MediaError("pointer", "it is a pointer of Git LFS, not the video; fetch it with  git lfs pull")
    if "/annex/objects/" in start[:400]:
        return MediaError("pointer", "it is a pointer of git-annex, not the video; fetch it with  git annex get")
    if playlist:
        return MediaError("playlist", f"it is a playlist ({playlist}), which names videos and holds none")
    return MediaError("text", _kind_of_text(start))


def _kind_of_text(start: str) -> str:
    if any(word in start[:1024] for word in WEB_PAGE):
        return "it is a web page (HTML), such as a server's error or a login, not a video"
    first = " ".join(start[:200].split())[:60]
    names = {"<": "XML, such as a store's error", "{": "JSON, such as a server's error", "[": "JSON"}
    return f"it is {names.get(start[:1], 'text')}, not a video: {first!r}"


def _begins(start: str, words: str) -> bool:
    """Recognise XML, which may name its kind after a prologue."""
    return start.startswith(words) or (words.startswith("<") and start.startswith("<?xml") and words in start[:4096])


def _as_text(head: bytes) -> str | None:
    """Return the bytes as text, if they are text: nearly all of it letters and blanks."""
    encoding = "utf-16" if head.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    if encoding != "utf-16" and b"\0" in head:
        return None
    text = head[: len(head) & ~1 if encoding == "utf-16" else None].decode(encoding, "replace")
    odd = sum(not (c.isprintable() or c in "\t\r\n\f\x1b") or c == "\ufffd" for c in text)
    return text if odd <= len(text) / 50 + 1 and len(text) > 2 else None
