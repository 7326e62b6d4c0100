"""Still images: which files are one, and the demuxer that reads each kind.

The demuxer is named by us from the first bytes, and never guessed from the file's name: libavformat's own choice for
`.jpg` reads numbered sequences, so that a name with `%d` in it would mean other files.
"""

from typing import Any

DEMUXERS = (
    (b"\xff\xd8\xff", "jpeg_pipe"), (b"\x89PNG\r\n\x1a\n", "png_pipe"), (b"II*\x00", "tiff_pipe"),
    (b"MM\x00*", "tiff_pipe"), (b"BM", "bmp_pipe"),
)  # fmt: skip
"""First bytes -> demuxer, of kinds that only ever hold one image."""

WEBP = "webp_pipe"
STILLS = frozenset({WEBP, *(name for _, name in DEMUXERS)})
MAY_BE_STILL = frozenset({"gif", "apng", "webp"})  # containers of an image that moves, or of one that does not
STILL_BRANDS = frozenset({"avif", "mif1", "heic", "heix"})  # of an MP4 that holds an image


def still_demuxer(head: bytes) -> str | None:
    """Return the name of the demuxer for a still image that begins with these bytes; None for anything else."""
    if is_webp(head):
        return None if is_animated_webp(head) else WEBP
    return next((name for magic, name in DEMUXERS if head.startswith(magic)), None)


def is_webp(head: bytes) -> bool:
    """Return whether a file that begins so is a WebP."""
    return head[:4] == b"RIFF" and head[8:12] == b"WEBP"


def is_animated_webp(head: bytes) -> bool:
    """Return whether a WebP says that it moves (bit 1 of the flags of its VP8X chunk); libavcodec decodes none such."""
    return is_webp(head) and head[12:16] == b"VP8X" and len(head) > 20 and bool(head[20] & 2)


def is_still(container: Any, num_frames: int | None = None) -> bool:
    """Return whether an open `av` container holds one still image.

    An image that is stored in tiles does not count: each tile is a stream, and no stream is the image.

    Args:
        container: the open file.
        num_frames: how many frames it decoded to; None where that is not known yet.
    """
    name = container.format.name
    if name in STILLS:
        return True
    if num_frames != 1 or len(container.streams.video) != 1:
        return False
    return name in MAY_BE_STILL or container.metadata.get("major_brand") in STILL_BRANDS
