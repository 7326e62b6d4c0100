"""Copies of remote inputs on a worker's disk, so that a file is fetched once and not by each step on it.

Workers of a machine share a folder per run below the one for temporary files. The copies together stay below a bound:
the one that was not read for longest goes first, and a file that is open may go too, as its reader keeps it. What a
killed run left goes once it is a day old.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

PREFIX = "reel-inputs-"
PART = ".part"
KEPT_FREE_SHARE, KEPT_FREE_BYTES = 0.1, 20 << 30
"""Of the disk, the smaller of which copies leave alone."""
LEFT_S = 86_400.0
"""Age of a copy that no run wants any more."""


@dataclass(frozen=True)
class InputCache:
    """The copies of one run on this machine. run: a name of letters and digits; max_bytes: of all runs' copies."""

    run: str
    max_bytes: int

    def open(self, uri: str) -> BinaryIO | None:
        """Open the copy of `uri` for reading; None where there is none."""
        path = self._path(uri)
        try:
            file = path.open("rb")
        except OSError:
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return file

    @contextlib.contextmanager
    def keeping(self, uri: str, num_bytes: int | None) -> Iterator[Copy]:
        """Yield a `Copy` that takes the bytes of `uri` in order; whole at the end of the block, it is there to open.

        Where there is no room for it, the copy takes nothing.

        Args:
            uri: of the input.
            num_bytes: of the file, where the server says so.
        """
        path = self._path(uri)
        copy = Copy(None)
        part = path.with_name(f"{path.name}.{os.getpid()}{PART}")
        try:
            if num_bytes and self._make_room(num_bytes, part):
                with contextlib.suppress(OSError):
                    copy = Copy(part.open("r+b"))
            yield copy
            if copy.is_whole(num_bytes):
                with contextlib.suppress(OSError):  # the run ended, and its folder is gone
                    part.replace(path)
        finally:
            copy.close()
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)

    def clear(self) -> None:
        """Delete this run's copies on this machine."""
        with contextlib.suppress(OSError):
            shutil.rmtree(_root() / self.run, ignore_errors=True)
            _root().rmdir()  # if it is the last

    def _path(self, uri: str) -> Path:
        return _root() / self.run / hashlib.sha256(uri.encode("utf-8", "surrogateescape")).hexdigest()[:32]

    def _make_room(self, num_bytes: int, part: Path) -> bool:
        """Reserve `num_bytes` by a file of that length, and delete old copies for it; false where they do not fit."""
        if num_bytes > self.max_bytes:
            return False
        root = _root()
        try:
            part.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if root.stat().st_uid != os.getuid():
                return False
            with (root / "lock").open("w") as held:
                fcntl.flock(held, fcntl.LOCK_EX)
                if not _delete_oldest(root, num_bytes, self.max_bytes):
                    return False
                with part.open("wb") as file:
                    file.truncate(num_bytes)
        except OSError:
            return False
        return True


@dataclass
class Copy:
    """A copy that is being written; without a file it takes nothing."""

    file: BinaryIO | None
    written: int = 0

    @property
    def takes(self) -> bool:
        """Whether bytes are kept."""
        return self.file is not None

    def write(self, block: bytes) -> None:
        """Take the next bytes. A disk that is full ends the copy, not the reading."""
        if self.file is None:
            return
        try:
            self.file.write(block)
            self.written += len(block)
        except OSError:
            self.close()

    def is_whole(self, num_bytes: int | None) -> bool:
        """Return whether all bytes are in the file."""
        if self.file is None or self.written != num_bytes:
            return False
        try:
            self.file.flush()
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Close the file; what was written stays."""
        file, self.file = self.file, None
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()


def _root() -> Path:
    return Path(tempfile.gettempdir()) / f"{PREFIX}{os.getuid()}"


def _delete_oldest(root: Path, num_bytes: int, max_bytes: int) -> bool:
    """Delete copies until `num_bytes` more fit, and copies that nobody wants; return whether they fit."""
    disk, now = shutil.disk_usage(root), time.time()
    copies = sorted(_copies(root), key=lambda one: one[1])
    used = sum(size for _, _, size in copies)
    to_free = num_bytes + min(disk.total * KEPT_FREE_SHARE, KEPT_FREE_BYTES) - disk.free
    for path, read_at, size in copies:
        is_left = now - read_at >= LEFT_S
        if not is_left and (path.suffix == PART or (used + num_bytes <= max_bytes and to_free <= 0)):
            continue
        path.unlink(missing_ok=True)
        used, to_free = used - size, to_free - size
    return used + num_bytes <= max_bytes and to_free <= 0


def _copies(root: Path) -> Iterator[tuple[Path, float, int]]:
    """Yield (path, time of the last read, bytes) of all runs' copies."""
    for path in root.glob("*/*"):
        with contextlib.suppress(OSError):
            status = path.stat()
            yield path, status.st_mtime, status.st_size
