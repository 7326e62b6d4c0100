"""Requests and bytes of stores by this process: as Lance counts them for each table, and of small objects of ours.

Lance counts a table's requests by the handle that opened it, with all handles derived of that one: opening, lists of
versions, reads, commits and the parts of uploads; not the two requests that begin and end an upload of several parts.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import weakref
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

Dataset = TypeVar("Dataset")  # lance.LanceDataset, which is not imported until it is needed
NAMES = ("requests", "write_requests", "bytes_read", "bytes_written")


@dataclass
class _Opened:
    """A table that was opened. inner: what counts, which outlives its handle here; known: its last count."""

    is_remote: bool
    inner: Any
    known: dict[str, int] = field(default_factory=dict)

    def count(self) -> dict[str, int]:
        with contextlib.suppress(RuntimeError):  # another thread moves it to a newer version at this moment
            self.known = traffic_of([self.inner])
        return self.known


_lock = threading.Lock()
_numbers = itertools.count()
_opened: dict[int, _Opened] = {}
_gone: deque[int] = deque()
_ended = {True: Counter[str](), False: Counter[str]()}
"""Of tables that are open no more, by whether they are on an object store."""


def counted(dataset: Dataset, uri: str) -> Dataset:
    """Count what is asked through a handle from its opening on, and return it."""
    number = next(_numbers)
    with _lock:
        _fold()
        _opened[number] = _Opened(_is_remote(uri), dataset._ds)  # type: ignore[attr-defined]
    weakref.finalize(dataset, _gone.append, number).atexit = False
    return dataset


def note(*, read: int | None = None, written: int | None = None) -> None:
    """Count a request for a small object of a store on an object store. read, written: its bytes, whichever it was."""
    with _lock:
        _ended[True].update(requests=1, bytes_read=read or 0, bytes_written=written or 0)
        _ended[True]["write_requests"] += written is not None


def totals(*, is_remote: bool) -> dict[str, int]:
    """Return what this process asked so far of stores on object stores, or on disks."""
    with _lock:
        _fold()
        found = Counter(_ended[is_remote])
        for one in _opened.values():
            if one.is_remote == is_remote:
                found.update(one.count())
    return {name: found[name] for name in NAMES}


def _fold() -> None:
    """Forget handles that are gone; a finalizer must not take the lock, which its own thread may hold."""
    while _gone:
        ended = _opened.pop(_gone.popleft())
        _ended[ended.is_remote].update(ended.count())


def _is_remote(uri: str) -> bool:
    return "://" in uri


def traffic_of(handles: Iterable[Any]) -> dict[str, int]:
    """Return requests, those of them that write, and bytes read and written, since these datasets were opened."""
    found = dict.fromkeys(NAMES, 0)
    for handle in handles:
        stats = handle.io_stats_snapshot()
        found["requests"] += stats.read_iops + stats.write_iops
        found["write_requests"] += stats.write_iops
        found["bytes_read"] += stats.read_bytes
        found["bytes_written"] += stats.written_bytes
    return found


def since(before: Mapping[str, int], now: Mapping[str, int]) -> dict[str, float]:
    """Return the difference of two counts."""
    return {name: count - before.get(name, 0) for name, count in now.items()}
