"""One committing process: an advisory lock file with pid, host and time, for stores on a local disk.

A process of this machine is looked up. One of another machine or container cannot be: its lock is a lease, which it
renews by the file's time every few seconds and which lapses with it. A store on an object store has no such file: there
Lance's own conflict check is what remains, so start one curation of it at a time.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from reelwright.curation.store.errors import StoreError, writing_to

FOLDER = "_locks"
RENEW_S = 10.0
LEASE_S = 60.0  # without a sign of life, before another machine's lock may be taken
WATCH_S = 25.0  # how long such a lock is watched first: clocks of machines and servers differ, a renewal does not lie
_held: dict[str, tuple[int, int]] = {}  # lock path -> (pid that took it, depth): the same process may take it again
_mine: dict[str, dict[str, Any]] = {}  # lock path -> what this process wrote there
_seen: dict[str, float] = {}  # lock path -> when it was surely this process's, on its own clock
_renewing = threading.Lock()
_renewer: threading.Thread | None = None


@contextmanager
def exclusive(store: Path, name: str) -> Iterator[None]:
    """Hold the lock `name` of the store at `store`; taking it again in the same process is free.

    Raises StoreError if another live process holds it, or took it while this one stood still for longer than a lease;
    a dead one's is taken over.
    """
    path = store / FOLDER / f"{name}.json"
    key = str(path)
    pid, depth = _held.get(key, (0, 0))
    if pid == os.getpid() and depth:
        _still_mine(path)
        _held[key] = (pid, depth + 1)
    else:
        with writing_to(str(store)):
            _mine[key] = _take(path)
        _held[key], _seen[key] = (os.getpid(), 1), time.monotonic()
        _renew_from_now_on()
    try:
        yield
    finally:
        pid, depth = _held[key]
        _held[key] = (pid, depth - 1)
        if depth == 1 and pid == os.getpid():
            with _renewing:
                if _read(path) == _mine.pop(key, None):
                    path.unlink(missing_ok=True)


def is_held_here(store: Path, name: str) -> bool:
    """Return whether this process holds the lock."""
    pid, depth = _held.get(str(store / FOLDER / f"{name}.json"), (0, 0))
    return pid == os.getpid() and depth > 0


def _still_mine(path: Path) -> None:
    """Refuse to go on with a lock that another process took while this one was stopped, perhaps with its machine."""
    key = str(path)
    if time.monotonic() - _seen[key] < LEASE_S / 2:
        return
    if _read(path) != _mine.get(key):
        raise StoreError(
            f"another process took {path} while this one stood still for over {LEASE_S:g} s; what this one committed "
            "stays. Run the same command again."
        )
    _seen[key] = time.monotonic()


def _renew_from_now_on() -> None:
    global _renewer  # noqa: PLW0603 - one thread per process
    if _renewer is None or not _renewer.is_alive():
        _renewer = threading.Thread(target=_renew, name="reel-lock", daemon=True)
        _renewer.start()


def _renew() -> None:
    """Set the times of what is held here, for as long as this process lives."""
    while True:
        time.sleep(RENEW_S)
        with _renewing:
            for key, owner in list(_mine.items()):
                path = Path(key)
                with suppress(OSError):  # a server that is away for a while
                    if owner["pid"] == os.getpid() and _read(path) == owner:
                        os.utime(path)
                        _seen[key] = time.monotonic()


def _take(path: Path) -> dict[str, Any]:
    """Write the lock file and return its content."""
    path.parent.mkdir(exist_ok=True)
    mine = path.with_name(f"{path.name}.{os.getpid()}.{uuid.uuid4().hex}")
    try:
        me = _me()
        mine.write_text(json.dumps(me))
        for _ in range(5):
            try:
                os.utime(mine)
                os.link(mine, path)  # atomic: fails if somebody holds it
                return me
            except FileExistsError:
                _clear_if_stale(path, mine)
        raise StoreError(f"{path} changes hands too quickly to be taken; try again in a moment.")
    finally:
        mine.unlink(missing_ok=True)


def _clear_if_stale(path: Path, mine: Path) -> None:
    owner = _read(path)
    if owner is None:
        return
    is_alive = _is_alive(owner)
    if is_alive is None and "lease_s" in owner:
        is_alive = not _has_lapsed(path, mine, float(owner["lease_s"]))
    if is_alive is not False:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(owner.get("time", 0))))
        lapses = f"its lock lapses {owner['lease_s']:g} s after its last sign of life" if "lease_s" in owner else (
            f"if that machine is gone for good, delete {path}")  # fmt: skip
        raise StoreError(
            f"process {owner.get('pid')} on {owner.get('host')} has been writing to this store since {since}; wait for "
            f"it to end ({lapses})."
        )
    aside = path.with_name(f"{path.name}.stale.{uuid.uuid4().hex}")
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return
    if _read(aside) != owner:  # somebody took it between the look and the rename: give it back
        os.link(aside, path)
    aside.unlink(missing_ok=True)


def _has_lapsed(path: Path, mine: Path, lease_s: float) -> bool:
    """Return whether a lock was not renewed for its lease, and is not renewed while it is watched.

    The lease goes by the clock of the file system that both files are on, the watch by our own.
    """
    try:
        os.utime(mine)
        last = path.stat().st_mtime_ns
        if mine.stat().st_mtime_ns - last < lease_s * 1e9:
            return False
        end = time.monotonic() + WATCH_S
        while time.monotonic() < end:
            time.sleep(min(1.0, WATCH_S / 10))
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


def _me() -> dict[str, Any]:
    return {"pid": os.getpid(), "host": socket.gethostname(), "space": _pid_space(), "time": time.time(),
            "born": _born(os.getpid()), "lease_s": LEASE_S}  # fmt: skip


def _is_alive(owner: dict[str, Any]) -> bool | None:
    """None where that is unknown: a process of another machine, or of another container that has this one's name."""
    if owner.get("host") not in (socket.gethostname(), None) or owner.get("space", _pid_space()) != _pid_space():
        return None
    pid = owner.get("pid")
    if not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return owner.get("born") in (None, _born(pid))  # a pid is used again: compare when its process began


def _pid_space() -> str | None:
    """Which processes this one sees (Linux): containers have spaces of their own, sometimes under one host's name."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return None


def _born(pid: int) -> str | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if stat[0] == "Z" else stat[19]
