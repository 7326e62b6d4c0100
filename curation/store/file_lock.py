"""A lock as a file of the store, for local and shared folders."""

from __future__ import annotations

import json
import os
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from reelwright.curation.store import owner as owners
from reelwright.curation.store.errors import StoreError


class FileLock:
    """One lock file: who holds it, and a time that its owner renews."""

    ask_every_s = 0.05

    def __init__(self, store: str, name: str) -> None:
        self.path = Path(store) / owners.FOLDER / f"{name}.json"
        self.key = str(self.path)

    def take(self, *, is_brief: bool = False) -> dict[str, Any]:
        """Take the lock and return the owner that was written. Raises StoreError if another process holds it."""
        self.path.parent.mkdir(exist_ok=True)
        draft = self.path.with_name(f"{self.path.name}.{os.getpid()}.{uuid.uuid4().hex}")
        try:
            owner = owners.this_process(is_brief=is_brief) | {"nonce": uuid.uuid4().hex}
            draft.write_text(json.dumps(owner))
            for _ in range(5):
                try:
                    os.utime(draft)
                    os.link(draft, self.path)  # atomic: fails if there is a lock
                    return owner
                except FileExistsError:
                    if _read(self.path) == owner:  # NFS: it was linked, the answer was lost, the client asked again
                        return owner
                    self._clear_if_stale(draft)
            raise StoreError(f"{self.path} changes hands too quickly to be taken; try again in a moment.")
        finally:
            draft.unlink(missing_ok=True)

    def is_held_by(self, owner: dict[str, Any]) -> bool:
        """Return whether the lock is still this owner's."""
        return _read(self.path) == owner

    def renew(self, owner: dict[str, Any]) -> bool:
        """Give a sign of life; false where the lock is another's, or its file server does not answer for a while."""
        with suppress(OSError):
            if _read(self.path) == owner:
                os.utime(self.path)
                return True
        return False

    def release(self, owner: dict[str, Any] | None) -> None:
        """Give the lock back, if it is still this owner's."""
        if _read(self.path) == owner:
            self.path.unlink(missing_ok=True)

    def _clear_if_stale(self, draft: Path) -> None:
        owner = _read(self.path)
        if owner is None:
            return
        is_alive = owners.is_alive(owner)
        if is_alive is None and "lease_s" in owner:
            is_alive = not _has_lapsed(self.path, draft, float(owner["lease_s"]))
        if is_alive is not False:
            raise owners.busy(owner, str(self.path))
        aside = self.path.with_name(f"{self.path.name}.stale.{uuid.uuid4().hex}")
        try:
            os.rename(self.path, aside)
        except FileNotFoundError:
            return
        if _read(aside) != owner:  # another process took it between the look and the rename: give it back
            with suppress(FileExistsError):  # a third one took it meanwhile: its lock stands
                os.link(aside, self.path)
        aside.unlink(missing_ok=True)


def _has_lapsed(path: Path, draft: Path, lease_s: float) -> bool:
    """Return whether a lock was not renewed for its lease, and is not renewed while it is watched.

    The lease goes by the clock of the file system of both files, the watch by this process's clock.

    Args:
        path: the lock.
        draft: a file of this process beside it.
        lease_s: time after which an unrenewed lock lapses, in seconds.
    """
    try:
        os.utime(draft)
        last = path.stat().st_mtime_ns
        if draft.stat().st_mtime_ns - last < lease_s * 1e9:
            return False
        end = time.monotonic() + owners.WATCH_S
        while time.monotonic() < end:
            time.sleep(min(1.0, owners.WATCH_S / 10))
            if path.stat().st_mtime_ns != last:
                return False
    except FileNotFoundError:
        pass  # it ended in this moment
    return True


def _read(path: Path) -> dict[str, Any] | None:
    try:
        owner = json.loads(path.read_text() or "{}")
        return owner if isinstance(owner, dict) else {}
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
