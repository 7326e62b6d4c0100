"""Requests and bytes of a store, as Lance counts them: files of tables, without lists of versions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def traffic_of(handles: Iterable[Any]) -> dict[str, int]:
    """Return requests, those of them that write, and bytes read and written, since these datasets were opened."""
    found = {"requests": 0, "write_requests": 0, "bytes_read": 0, "bytes_written": 0}
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
