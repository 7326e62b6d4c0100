"""One committing process per lock of a store.

A process of this machine is looked up. One of another machine or container cannot be: its lock is a lease, which it
renews every few seconds and which lapses with it. A store in a folder has lock files, one on an object store has lock
objects. A store in memory, as tests have it, has none.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reelwright.curation.store import object_lock
from reelwright.curation.store import owner as owners
from reelwright.curation.store.errors import StoreError, writing_to
from reelwright.curation.store.file_lock import FileLock
from reelwright.curation.store.object_lock import ObjectLock
from reelwright.curation.store.owner import HeldError

FOLDER = owners.FOLDER


@dataclass
class _Hold:
    """A lock that this process holds. depth: how often; confirmed_at: when it was last seen to be ours, monotonic."""

    lock: FileLock | ObjectLock
    pid: int
    owner: dict[str, Any]
    depth: int
    confirmed_at: float


_held: dict[str, _Hold] = {}  # by the lock's key: the same process may take it again
_renewing = threading.Lock()
_renewer: threading.Thread | None = None


def has_lock(store: str) -> bool:
    """Return whether a store of this address has locks."""
    return "://" not in store or store.startswith(object_lock.PROTOCOLS)


@contextmanager
def exclusive(
    store: Path | str,
    name: str,
    options: Mapping[str, str] | None = None,
    *,
    wait_s: float = 0.0,
    is_brief: bool = False,
) -> Iterator[None]:
    """Hold the lock `name` of a store; taking it again in the same process is free.

    One that is held briefly is waited for, whatever `wait_s`: who comes meanwhile is not to be turned away.

    Args:
        store: its folder or address.
        name: of the lock.
        options: of an object store, as Lance takes them.
        wait_s: how long another process may hold it first.
        is_brief: it is for one write of seconds.

    Raises:
        HeldError: another live process holds it.
        StoreError: another process took it while this one stood still for longer than a lease. A dead one's is taken
            over.
    """
    key = _key(store, name)
    hold = _held.get(key)
    if hold is not None and hold.pid == os.getpid():
        _check_still_held(hold)
        hold.depth += 1
    else:
        uri = str(store)
        with writing_to(uri):
            lock = FileLock(uri, name) if "://" not in uri else ObjectLock(uri, name, options)
            hold = _Hold(lock, os.getpid(), _taken(lock, wait_s, is_brief=is_brief), 1, time.monotonic())
        _held[key] = hold
        _start_renewing()
    try:
        yield
    finally:
        hold.depth -= 1
        if not hold.depth and hold.pid == os.getpid():
            with _renewing:
                del _held[key]
                hold.lock.release(hold.owner)


def is_held_here(store: Path | str, name: str) -> bool:
    """Return whether this process holds the lock."""
    hold = _held.get(_key(store, name))
    return hold is not None and hold.pid == os.getpid()


def _key(store: Path | str, name: str) -> str:
    return f"{store}/{FOLDER}/{name}"


def _check_still_held(hold: _Hold) -> None:
    """Raise StoreError if another process took the lock while this one, or its machine, was stopped."""
    if time.monotonic() - hold.confirmed_at < owners.LEASE_S / 2:
        return
    if not hold.lock.is_held_by(hold.owner):
        raise StoreError(
            f"another process took {hold.lock.key} while this one stood still for over {owners.LEASE_S:g} s; what this "
            "one committed stays. Run the same command again."
        )
    hold.confirmed_at = time.monotonic()


def _taken(lock: FileLock | ObjectLock, wait_s: float, *, is_brief: bool) -> dict[str, Any]:
    began = time.monotonic()
    while True:
        try:
            return lock.take(is_brief=is_brief)
        except HeldError as held:
            if time.monotonic() >= began + max(wait_s, owners.BRIEF_S if held.is_brief else 0.0):
                raise
            time.sleep(lock.ask_every_s)


def _start_renewing() -> None:
    global _renewer  # noqa: PLW0603 - one thread per process
    if _renewer is None or not _renewer.is_alive():
        _renewer = threading.Thread(target=_renew, name="reel-lock", daemon=True)
        _renewer.start()


def _renew() -> None:
    """Renew the locks of this process for as long as it lives."""
    while True:
        time.sleep(owners.RENEW_S)
        for key in list(_held):
            with _renewing:
                hold = _held.get(key)
                if hold is not None and hold.pid == os.getpid() and hold.lock.renew(hold.owner):
                    hold.confirmed_at = time.monotonic()
