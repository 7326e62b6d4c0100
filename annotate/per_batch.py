"""Columns of a set that each batch has by itself, so that any number of workers can compute them side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from reelwright.annotate.set_reader import ClipReader


@dataclass(frozen=True)
class PerBatch:
    """Columns of each batch, as `SetAnnotator.stream` returns them where they depend on that batch alone.

    A run shares the batches of a large set out to tasks. Whoever iterates has them computed here, one after the other.

    Args:
        clips: the reader that `stream` was given.
        reads: columns that `compute` reads beside `clip_id`.
        compute: is given some complete clips, perhaps none, and returns a value of each column for each. It is sent to
            other processes, so it is a frozen dataclass with `__call__`, or a function of a module; it asks no server.
    """

    clips: ClipReader
    reads: tuple[str, ...]
    compute: Callable[[pa.Table], Mapping[str, Any]]

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        """Compute the columns of each of `clips.batches()`, in its order."""
        return (self.compute(batch) for batch in self.clips.batches(self.reads))
