"""`Usage`: what work took, counted where it is done: CPU, memory, and requests to object stores and the web."""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class Usage:
    """What work took.

    Args:
        cpu_s: seconds of CPU, of all threads.
        peak_bytes: largest resident memory of a process.
        requests: to the servers of remote inputs, and to a store on an object store.
        bytes_in: read from them.
        write_requests: those of the requests that write.
        bytes_out: written by them.
    """

    cpu_s: float = 0.0
    peak_bytes: int = 0
    requests: int = 0
    bytes_in: int = 0
    write_requests: int = 0
    bytes_out: int = 0

    def add(self, other: Usage) -> None:
        """Add other work; of memory, the larger peak stays."""
        self.cpu_s += other.cpu_s
        self.peak_bytes = max(self.peak_bytes, other.peak_bytes)
        self.requests += other.requests
        self.bytes_in += other.bytes_in
        self.write_requests += other.write_requests
        self.bytes_out += other.bytes_out

    def to_json(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


@dataclass
class Lap:
    """Work of one stage within a task that does several things.

    Args:
        count: pieces of it.
        seconds: that they took.
        used: CPU, memory and requests.
    """

    count: int
    seconds: float
    used: Usage


_noted = Usage()
"""Since `begin` or the last lap, of this process's sandboxes and requests."""
_began_cpu_s = 0.0
_began_s = 0.0
_laps: dict[str, Lap] = {}


def note(usage: Usage) -> None:
    """Count work that this process did, or had done by a child."""
    _noted.add(usage)


def note_request(count: int = 1, num_bytes: int = 0) -> None:
    """Count requests to the server of a remote input, and the bytes that they brought."""
    _noted.requests += count
    _noted.bytes_in += num_bytes


def take_requests() -> Usage:
    """Return the requests that this process noted itself since the last call, or `begin`."""
    taken = Usage(requests=_noted.requests, bytes_in=_noted.bytes_in)
    _noted.requests = _noted.bytes_in = 0
    return taken


def begin() -> None:
    """Begin to count anew; one piece of work at a time."""
    _laps.clear()
    _begin()


def lap(stage: str) -> None:
    """Charge all work since `begin` or the last lap to a stage, as a piece of it, and count on anew."""
    seconds, used = time.monotonic() - _began_s, _since()
    known = _laps.setdefault(stage, Lap(0, 0.0, Usage()))
    known.count += 1
    known.seconds += seconds
    known.used.add(used)
    _begin()


def laps() -> dict[str, Lap]:
    """Return the stages that `lap` charged since `begin`."""
    return dict(_laps)


def end() -> Usage:
    """Return what was used since `begin` or the last lap."""
    return _since()


def _begin() -> None:
    global _noted, _began_cpu_s, _began_s
    _noted, _began_cpu_s, _began_s = Usage(), time.process_time(), time.monotonic()
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # Linux: the peak of resident memory begins anew


def _since() -> Usage:
    used = Usage(cpu_s=time.process_time() - _began_cpu_s)
    used.add(_noted)
    if not used.peak_bytes:  # with a child it is the child's: it holds the frames
        used.peak_bytes = _peak_bytes()
    return used


def _peak_bytes() -> int:
    with contextlib.suppress(OSError), open("/proc/self/status") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    return 0
