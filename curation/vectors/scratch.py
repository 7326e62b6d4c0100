"""Arrays that may be larger than memory: in files that the system maps, and drops from memory where it runs short."""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

IN_MEMORY_BYTES = 16 * 2**20  # smaller arrays need no file


class Scratch:
    """Makes arrays; large ones lie in files of a folder for temporary files, which goes when the scratch is closed."""

    def __init__(self) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._maps: list[mmap.mmap] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._maps.clear()
        if self._folder is not None:
            self._folder.cleanup()

    def array(self, shape: tuple[int, ...], kind: Any) -> np.ndarray:
        """Return an array of zeros, which must not be used once the scratch is closed. Raise OSError on a full disk."""
        size = math.prod(shape) * np.dtype(kind).itemsize
        if size <= IN_MEMORY_BYTES:
            return np.zeros(shape, kind)
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="reel-set-", ignore_cleanup_errors=True)
        path = Path(self._folder.name) / str(len(self._maps))
        with path.open("w+b") as file:  # a full disk is an error here; in a mapped page it would end the process
            os.posix_fallocate(file.fileno(), 0, size)
            self._maps.append(mmap.mmap(file.fileno(), size))
        return np.frombuffer(self._maps[-1], kind).reshape(shape)

    def let_go(self) -> None:
        """Take what is mapped out of this process's memory; the system still has it, in memory or on disk."""
        for one in self._maps:
            one.madvise(mmap.MADV_DONTNEED)
