"""Arrays that may be larger than memory: in files that the system maps, and drops from memory where it runs short."""

from __future__ import annotations

import math
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
        self._made = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def array(self, shape: tuple[int, ...], kind: Any) -> np.ndarray:
        """Return an array of zeros, which must not be used once the scratch is closed. Raise OSError on a full disk."""
        if math.prod(shape) * np.dtype(kind).itemsize <= IN_MEMORY_BYTES:
            return np.zeros(shape, kind)
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="reel-set-", ignore_cleanup_errors=True)
        self._made += 1
        path = Path(self._folder.name) / str(self._made)
        with path.open("wb") as file:  # a full disk is an error here; in a mapped page it would end the process
            os.posix_fallocate(file.fileno(), 0, math.prod(shape) * np.dtype(kind).itemsize)
        return np.asarray(np.memmap(path, kind, "r+", shape=shape))
