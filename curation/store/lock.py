"""One committing process: an advisory lock file with pid, host and time, for stores on a local disk.

A store on an object store has no such file: there Lance's own conflict check is what remains, so start one curation
of it at a time.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from curation.store.errors import StoreError, writing_to

FOLDER = "_locks"
_held: dict[str, tuple[int, int]] = {}  # lock path -> (pid that took it, depth): the same process may take it again


@contextmanager
def exclusive(store: Path, name: str) -> Iterator[None]:
    """Hold the lock `name` of the store at `store`; taking it again in the same process is free.

    Raises StoreError if another live process holds it; a dead one's is taken over.
    """
    path = store / FOLDER / f"{name}.json"
    key = str(path)
    pid, depth = _held.get(key, (0, 0))
    if pid == os.getpid() and depth:
        _held[key] = (pid, depth + 1)
    else:
        with writing_to(str(store)):
            _take(path)
        _held[key] = (os.getpid(), 1)
    try:
        yield
    finally:
        pid, depth = _held[key]
        _held[key] = (pid, depth - 1)
        if depth == 1 and pid == os.getpid():
            path.unlink(missing_ok=True)


def is_held_here(store: Path, name: str) -> bool:
    """Whether this process holds the lock."""
    pid, depth = _held.get(str(store / FOLDER / f"{name}.json"), (0, 0))
    return pid == os.getpid() and depth > 0


def _take(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    mine = path.with_name(f"{path.name}.{os.getpid()}.{uuid.uuid4().hex}")
    try:
        mine.write_text(json.dumps(_me()))
        for _ in range(5):
            try:
                os.link(mine, path)  # atomic: fails if somebody holds it
                return
            except FileExistsError:
                _clear_if_stale(path)
        raise StoreError(f"{path} changes hands too quickly to be taken; try again in a moment.")
    finally:
        mine.unlink(missing_ok=True)


def _clear_if_stale(path: Path) -> None:
    owner = _read(path)
    if owner is None:
        return
    if _is_alive(owner):
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(owner.get("time", 0))))
        raise StoreError(
            f"process {owner.get('pid')} on {owner.get('host')} has been writing to this store since {since}; wait for "
            f"it to end, or if that machine is gone for good, delete {path}."
        )
    aside = path.with_name(f"{path.name}.stale.{uuid.uuid4().hex}")
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return
    if _read(aside) != owner:  # somebody took it between the look and the rename: give it back
        os.link(aside, path)
    aside.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        owner = json.loads(path.read_text() or "{}")
        return owner if isinstance(owner, dict) else {}
    except FileNotFoundError:
        return None
    except ValueError:
        return {}


def _me() -> dict[str, Any]:
    return {"pid": os.getpid(), "host": socket.gethostname(), "time": time.time(), "born": _born(os.getpid())}


def _is_alive(owner: dict[str, Any]) -> bool:
    """False only for a process known to be dead: another machine's cannot be looked at from here."""
    if owner.get("host") not in (socket.gethostname(), None):
        return True
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


def _born(pid: int) -> str | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if stat[0] == "Z" else stat[19]
