"""One committing process: an advisory lock file with pid, host and time, for stores on a local disk.

A process of this machine is looked up. One of another machine or container cannot be: its lock is a lease, which it
renews by the file's time every few seconds and which lapses with it. A store on an object store has no such file: there
Lance's own conflict check remains, so start one curation of it at a time.
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
_owners: dict[str, dict[str, Any]] = {}  # lock path -> the owner that this process wrote there
_confirmed_at: dict[str, float] = {}  # lock path -> when this process last saw its own owner there, monotonic
_renewing = threading.Lock()
_renewer: threading.Thread | None = None


class HeldError(StoreError):
    """Another live process holds the lock."""


@contextmanager
def exclusive(store: Path, name: str, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the lock `name` of the store at `store`; taking it again in the same process is free.

    wait_s: how long another process may hold it first. A dead one's is taken over.

    Raises StoreError if another live process holds it, or took it while this one stood still for longer than a lease.
    """
    path = store / FOLDER / f"{name}.json"
    key = str(path)
    pid, depth = _held.get(key, (0, 0))
    if pid == os.getpid() and depth:
        _check_still_held(path)
        _held[key] = (pid, depth + 1)
    else:
        with writing_to(str(store)):
            _owners[key] = _taken(path, wait_s)
        _held[key], _confirmed_at[key] = (os.getpid(), 1), time.monotonic()
        _start_renewing()
    try:
        yield
    finally:
        pid, depth = _held[key]
        _held[key] = (pid, depth - 1)
        if depth == 1 and pid == os.getpid():
            with _renewing:
                if _read(path) == _owners.pop(key, None):
                    path.unlink(missing_ok=True)


def is_held_here(store: Path, name: str) -> bool:
    """Return whether this process holds the lock."""
    pid, depth = _held.get(str(store / FOLDER / f"{name}.json"), (0, 0))
    return pid == os.getpid() and depth > 0


def _check_still_held(path: Path) -> None:
    """Raise StoreError if another process took the lock while this one, or its machine, was stopped."""
    key = str(path)
    if time.monotonic() - _confirmed_at[key] < LEASE_S / 2:
        return
    if _read(path) != _owners.get(key):
        raise StoreError(
            f"another process took {path} while this one stood still for over {LEASE_S:g} s; what this one committed "
            "stays. Run the same command again."
        )
    _confirmed_at[key] = time.monotonic()


def _start_renewing() -> None:
    global _renewer  # noqa: PLW0603 - one thread per process
    if _renewer is None or not _renewer.is_alive():
        _renewer = threading.Thread(target=_renew, name="reel-lock", daemon=True)
        _renewer.start()


def _renew() -> None:
    """Renew the locks of this process for as long as it lives."""
    while True:
        time.sleep(RENEW_S)
        with _renewing:
            for key, owner in list(_owners.items()):
                path = Path(key)
                with suppress(OSError):  # a file server that does not answer for a while
                    if owner["pid"] == os.getpid() and _read(path) == owner:
                        os.utime(path)
                        _confirmed_at[key] = time.monotonic()


def _taken(path: Path, wait_s: float) -> dict[str, Any]:
    until = time.monotonic() + wait_s
    while True:
        try:
            return _take(path)
        except HeldError:
            if time.monotonic() >= until:
                raise
            time.sleep(0.05)


def _take(path: Path) -> dict[str, Any]:
    """Take the lock and return the owner that was written. Raises StoreError if another process holds it."""
    path.parent.mkdir(exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.{uuid.uuid4().hex}")
    try:
        owner = this_process()
        draft.write_text(json.dumps(owner))
        for _ in range(5):
            try:
                os.utime(draft)
                os.link(draft, path)  # atomic: fails if there is a lock
                return owner
            except FileExistsError:
                _clear_if_stale(path, draft)
        raise StoreError(f"{path} changes hands too quickly to be taken; try again in a moment.")
    finally:
        draft.unlink(missing_ok=True)


def _clear_if_stale(path: Path, draft: Path) -> None:
    owner = _read(path)
    if owner is None:
        return
    lives = is_alive(owner)
    if lives is None and "lease_s" in owner:
        lives = not _has_lapsed(path, draft, float(owner["lease_s"]))
    if lives is not False:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(owner.get("time", 0))))
        lapses = f"its lock lapses {owner['lease_s']:g} s after its last sign of life" if "lease_s" in owner else (
            f"if that machine is gone for good, delete {path}")  # fmt: skip
        raise HeldError(
            f"process {owner.get('pid')} on {owner.get('host')} has been writing to this store since {since}; wait for "
            f"it to end ({lapses})."
        )
    aside = path.with_name(f"{path.name}.stale.{uuid.uuid4().hex}")
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return
    if _read(aside) != owner:  # another process took it between the look and the rename: give it back
        os.link(aside, path)
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


def this_process() -> dict[str, Any]:
    """Return this process as a lock's owner is written."""
    return {"pid": os.getpid(), "host": socket.gethostname(), "space": _pid_namespace(), "time": time.time(),
            "born": _start_time(os.getpid()), "lease_s": LEASE_S}  # fmt: skip


def is_alive(owner: dict[str, Any]) -> bool | None:
    """Return whether the owner runs; None for a process of another machine, or of a container of the same name."""
    namespace = _pid_namespace()
    if owner.get("host") not in (socket.gethostname(), None) or owner.get("space", namespace) != namespace:
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
    return owner.get("born") in (None, _start_time(pid))  # a pid is used again: compare when its process began


def _pid_namespace() -> str | None:
    """Return the namespace of this process's pids (Linux): containers with one host's name have different ones."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return None


def _start_time(pid: int) -> str | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if stat[0] == "Z" else stat[19]
