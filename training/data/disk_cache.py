"""Tensors' bytes by key in a folder of this machine, up to a size."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import threading
from pathlib import Path

CHECK_EVERY = 64
"""Files written between two looks at the folder's size."""
LEFT = 0.9
"""Share of the size that is kept when the size is exceeded."""


class DiskCache:
    """Files named by the hash of their key. For several threads and processes at once; a lost file is made again."""

    def __init__(self, folder: str, *, gib: float) -> None:
        """Use a folder, which is made.

        Args:
            folder: empty: `reelwright/encoded` in the user's cache folder.
            gib: size of all files; beyond it, the files that were read longest ago are deleted.
        """
        self.folder = Path(folder) if folder else _user_cache() / "reelwright" / "encoded"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.limit = int(gib * (1 << 30))
        self._lock, self._written = threading.Lock(), 0

    def get(self, key: str, num_bytes: int | None = None) -> bytes | None:
        """Return the bytes put under a key, if they are still there and of that size."""
        path = self._path(key)
        try:
            data = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        return data if num_bytes is None or len(data) == num_bytes else None

    def put(self, key: str, data: bytes) -> None:
        """Keep bytes under a key. A disk that is full keeps nothing, and says nothing: it is a cache."""
        path = self._path(key)
        with contextlib.suppress(OSError):
            path.parent.mkdir(exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
                try:
                    file.write(data)
                    file.close()
                    os.replace(file.name, path)
                except OSError:
                    os.unlink(file.name)
                    raise
        with self._lock:
            self._written += 1
            due = self._written % CHECK_EVERY == 0
        if due:
            self.trim()

    def trim(self) -> None:
        """Delete the files that were read longest ago, if all together are too large."""
        files = []
        for path in self.folder.glob("??/*"):
            with contextlib.suppress(OSError):
                status = path.stat()
                files.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in files)
        if total <= self.limit:
            return
        for _, size, path in sorted(files):
            if total <= self.limit * LEFT:
                return
            path.unlink(missing_ok=True)
            total -= size

    def _path(self, key: str) -> Path:
        name = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=20).hexdigest()
        return self.folder / name[:2] / name[2:]


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
