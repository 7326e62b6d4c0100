"""The profile of Dolby Vision that an MP4 claims: its configuration record, a box of the sample entry."""

from typing import Any, BinaryIO

from reelwright.curation.media.protection import PARENTS, boxes

SAMPLE_ENTRY_BYTES = 78  # of a picture's sample entry before the boxes it holds: ISO 14496-12, 12.1.3
CONFIGURATIONS = (b"dvcC", b"dvvC", b"dvwC")
MAX_DEPTH = 6


def dolby_vision_profile(path: str, file: Any = None) -> int | None:
    """Return the profile number of the first Dolby Vision track; None where the file has no such record.

    Args:
        path: path or URI of the file.
        file: the file, if it is open already.
    """
    if file is not None:
        position = file.tell()
        try:
            return _below(file, 0, file.seek(0, 2))
        finally:
            file.seek(position)
    with open(path, "rb") as opened:
        return _below(opened, 0, opened.seek(0, 2))


def _below(file: BinaryIO, start: int, end: int, depth: int = 0) -> int | None:
    for kind, begins, ends in boxes(file, start, end):
        found = None
        if kind in PARENTS and depth < MAX_DEPTH:
            found = _below(file, begins, min(ends, end), depth + 1)
        elif kind == b"stsd":  # version, flags and count come before its entries
            found = _of_entries(file, begins + 8, min(ends, end))
        if found is not None:
            return found
    return None


def _of_entries(file: BinaryIO, start: int, end: int) -> int | None:
    for _, begins, ends in boxes(file, start, end):
        for kind, content, _ in boxes(file, begins + SAMPLE_ENTRY_BYTES, min(ends, end)):
            if kind in CONFIGURATIONS:
                file.seek(content)
                record = file.read(3)
                return record[2] >> 1 if len(record) == 3 else None
    return None
