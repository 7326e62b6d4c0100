"""Whether a file's own header says that its pictures are encrypted: a decoder makes garbage of them, and says little.

Looked at are the sample entries of MP4 (ISO 23001-7), Matroska's ContentEncodings, ASF's encryption objects and the
scrambling bits of transport streams (ISO 13818-1); the look is bounded, and nothing is decoded.
"""

from collections.abc import Iterator
from typing import BinaryIO

HEAD_BYTES = 64 << 10
MAX_BOXES = 10_000  # of one level of an MP4
MAX_BOX_DEPTH = 6
TS_PACKET = 188
BOX_TYPES = (b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"pnot", b"uuid", b"sidx")
PARENTS = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
PROTECTED = {b"encv": "Common Encryption", b"drmi": "FairPlay"}  # sample entries of pictures; sound has others
ASF_ENCRYPTION = (bytes.fromhex("fbb31122 23bd d211 b4b7 00a0c955fc6e"),
                  bytes.fromhex("14e68a29 2226 174c b935 dae07ee9289c"))  # fmt: skip
MATROSKA_ENCRYPTS = b"\x50\x33\x81\x01"  # ContentEncodingType is 1
MATROSKA_CLUSTER = b"\x1f\x43\xb6\x75"


def protection_of(file: BinaryIO, size: int, container: str | None) -> str | None:
    """Name of a file's encryption; None where it tells of none. container: as `sniff.looks_like` says."""
    file.seek(0)
    head = file.read(HEAD_BYTES)
    if head[4:8] in BOX_TYPES:
        tops = ((begins, min(ends, size)) for kind, begins, ends in boxes(file, 0, size) if kind == b"moov")
        return next((found for begins, ends in tops if (found := _scheme(file, begins, ends))), None)
    if container in ("mkv", "webm"):
        return "Matroska's encryption" if MATROSKA_ENCRYPTS in head.partition(MATROSKA_CLUSTER)[0] else None
    if container == "asf":
        return "Windows Media DRM" if any(guid in head for guid in ASF_ENCRYPTION) else None
    return "scrambled packets" if container == "mpegts" and _is_scrambled(head) else None


def boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield (kind, where its content begins, where it ends, which may be beyond the file) of the boxes of one level."""
    for _ in range(MAX_BOXES):
        if start + 8 > end:
            return
        file.seek(start)
        header = file.read(16)
        length, kind, begins = int.from_bytes(header[:4], "big"), header[4:8], start + 8
        if length == 1:
            length, begins = int.from_bytes(header[8:16], "big"), start + 16
        elif length == 0:  # to the end of the box around it
            length = end - start
        if length < begins - start:
            return
        yield kind, begins, start + length
        start += length


def _scheme(file: BinaryIO, start: int, end: int, depth: int = 0) -> str | None:
    """Name of the protection of the first protected track below a box."""
    for kind, begins, ends in boxes(file, start, end):
        if kind in PARENTS and depth < MAX_BOX_DEPTH:
            if found := _scheme(file, begins, min(ends, end), depth + 1):
                return found
        elif kind == b"stsd":  # version, flags and count come before its entries
            for entry, _, _ in boxes(file, begins + 8, min(ends, end)):
                if entry in PROTECTED:
                    return PROTECTED[entry]
    return None


def _is_scrambled(head: bytes) -> bool:
    """Return whether most packets of a transport stream say that they are scrambled."""
    packets = [head[i : i + 4] for i in range(0, len(head) - 4, TS_PACKET) if head[i] == 0x47]
    return sum(p[3] >> 6 != 0 for p in packets) > len(packets) // 2
