"""`StoreError`, and sentences about unknown names, Lance's errors and full disks."""

from __future__ import annotations

import contextlib
import difflib
import re
import shutil
from collections.abc import Iterable, Iterator

from reelwright.errors import ReelError, first_line


class StoreError(ReelError):
    """A request that the store cannot serve: one sentence that says what to do."""


def lance_reason(error: Exception) -> str:
    """Return the first line of Lance's message, without the place in its own source that it ends with."""
    return re.sub(r", /\S+\.rs:\d+:\d+$", "", first_line(error)).rstrip(".")


def look_alikes(name: str, known: Iterable[str], *, count: int = 3) -> list[str]:
    """Return the names in `known` that a person who typed `name` may have meant, best first."""
    by_lower = {k.lower(): k for k in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=count, cutoff=0.65)
    inside = [k for k in by_lower if len(name) > 2 and (name.lower() in k or k in name.lower())]
    return [by_lower[k] for k in dict.fromkeys(close + inside)][:count]


def unknown_name(name: str, kind: str, known: Iterable[str], *, see: str) -> StoreError:
    """Return `'captions' is not a column of clips; columns that look alike: caption. See: reel describe clips`.

    kind: what `name` was expected to be, its first word the noun ("column of clips", "table").
    """
    alike = look_alikes(name, known)
    hint = f"; {kind.partition(' ')[0]}s that look alike: {', '.join(alike)}" if alike else ""
    return StoreError(f"'{name}' is not a {kind}{hint}. See: {see}")


NO_ROOM = re.compile(r"no space left|quota exceeded|file too large|os error (28|122|27)\b", re.IGNORECASE)
NO_ROOM_BYTES = 4 << 20  # with less free, a failed write is for lack of room, whatever the message


@contextlib.contextmanager
def writing_to(uri: str) -> Iterator[None]:
    """Turn errors of writing into a sentence: a full disk is not a bug."""
    try:
        yield
    except OSError as error:
        first = lance_reason(error)
        if NO_ROOM.search(first) or _is_full(uri):
            raise StoreError(
                f"no room is left to write to the store at {uri}; free some and run the same command again: what was "
                "committed is kept."
            ) from error
        raise StoreError(f"the store at {uri} could not be written to: {first}.") from error


def _is_full(uri: str) -> bool:
    """Return whether a local store's disk is full: Lance may then report the file that came out short instead."""
    try:
        return "://" not in uri and shutil.disk_usage(uri).free < NO_ROOM_BYTES
    except OSError:
        return False
