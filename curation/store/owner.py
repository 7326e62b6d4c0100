"""Who holds a lock of a store: a process of this machine, which is looked up, or one of another, whose lease lapses."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reelwright.curation.store.errors import StoreError

FOLDER = "_locks"
RENEW_S = 10.0
LEASE_S = 60.0  # without a sign of life, before another machine's lock may be taken
BRIEF_S = 60.0  # that a lock of one write is waited for
WATCH_S = 25.0  # how long such a lock is watched first: clocks of machines and servers differ, a renewal does not lie


class HeldError(StoreError):
    """Another live process holds the lock. is_brief: for one write of seconds, which is waited for."""

    def __init__(self, message: str, *, is_brief: bool = False) -> None:
        super().__init__(message)
        self.is_brief = is_brief


def this_process(*, is_brief: bool = False) -> dict[str, Any]:
    """Return what is written into a lock of this process. is_brief: it holds the lock for one write of seconds."""
    about = {"pid": os.getpid(), "host": socket.gethostname(), "space": _pid_namespace(), "time": time.time(),
             "born": _start_time(os.getpid()), "lease_s": LEASE_S}  # fmt: skip
    return about | {"is_brief": True} if is_brief else about


def is_alive(owner: Mapping[str, Any]) -> bool | None:
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


def busy(owner: Mapping[str, Any], where: str) -> HeldError:
    """Return the sentence about a lock that another process holds at `where`."""
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(owner.get("time", 0))))
    lapses = f"its lock lapses {owner['lease_s']:g} s after its last sign of life" if "lease_s" in owner else (
        f"if that machine is gone for good, delete {where}")  # fmt: skip
    return HeldError(
        f"process {owner.get('pid')} on {owner.get('host')} has been writing to this store since {since}; wait for it "
        f"to end ({lapses}).", is_brief=owner.get("is_brief") is True,
    )  # fmt: skip


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
