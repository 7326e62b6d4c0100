"""Commands that a page started: processes of `reel`, with what they print and how they ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reelwright.curation.records.status import under_way
from reelwright.errors import UserError
from reelwright.pipelines.app.work.commands import Where, line

MOST_AT_ONCE, MOST_KEPT = 4, 100
TAIL = 20 << 10  # bytes of output that a page shows
END_S = 20.0
"""Given to commands when the server ends, to keep what they have."""


@dataclass
class Started:
    """A command that was started. log: what it printed."""

    key: str
    words: list[str]
    process: subprocess.Popen[bytes]
    log: Path
    began: float = field(default_factory=time.time)
    ended: float | None = None
    was_stopped: bool = False

    def state(self) -> str:
        """Return running, done, stopped or failed."""
        code = self.process.poll()
        if code is None:
            return "running"
        self.ended = self.ended or time.time()
        return "done" if code == 0 else "stopped" if self.was_stopped else "failed"


class Processes:
    """Processes of `reel`, started from argument lists and never by a shell.

    Args:
        where: they run.
        is_allowed: whether any may be started.
        server: address of a Ray cluster's job server; empty: none.
    """

    def __init__(self, where: Where, *, is_allowed: bool = False, server: str = "") -> None:
        self.where, self.is_allowed, self.server = where, is_allowed, server
        self._lock = threading.Lock()
        self._started: dict[str, Started] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="reel-app-") if is_allowed else None

    def start(self, words: Sequence[str]) -> str:
        """Start a command; return its key.

        Raises:
            UserError: commands are not allowed, or as many run as may.
        """
        if self._folder is None:
            raise UserError("this server starts no commands; begin it with --allow-commands, or copy the command")
        with self._lock:
            if sum(one.state() == "running" for one in self._started.values()) >= MOST_AT_ONCE:
                raise UserError(f"{MOST_AT_ONCE} commands run already; wait for one to end, or stop it")
            key = uuid.uuid4().hex[:16]
            log = Path(self._folder.name) / f"{key}.log"
            with log.open("wb") as out:
                process = subprocess.Popen(
                    [sys.executable, "-m", "reelwright.pipelines.cli", *words], stdin=subprocess.DEVNULL, stdout=out,
                    stderr=subprocess.STDOUT, cwd=self.where.work, env=os.environ | {"PYTHONUNBUFFERED": "1"},
                    start_new_session=True,
                )  # fmt: skip
            self._started[key] = Started(key, list(words), process, log)
            for old in list(self._started)[:-MOST_KEPT]:
                if self._started[old].state() != "running":
                    self._started.pop(old).log.unlink(missing_ok=True)
            return key

    def all(self) -> list[dict[str, Any]]:
        """Return the commands, the newest first, with the end of what they printed and how far they are."""
        notes = {_pid(note): note for note in under_way(self.where.store)}
        with self._lock:
            return [self._facts(one, notes.get(one.process.pid)) for one in reversed(self._started.values())]

    def stop(self, key: str) -> None:
        """Interrupt a command, as Ctrl-C does: it keeps what it has. Raises UserError where there is none."""
        with self._lock:
            one = self._started.get(key)
            if one is None:
                raise UserError(f"no command {key[:40]} was started here")
            _interrupt(one)

    def close(self) -> None:
        """Interrupt all that runs, and wait for it."""
        with self._lock:
            running = [one for one in self._started.values() if one.state() == "running"]
            for one in running:
                _interrupt(one)
            until = time.monotonic() + END_S
            for one in running:
                try:
                    one.process.wait(max(0.0, until - time.monotonic()))
                except subprocess.TimeoutExpired:  # it has been told, and ends by itself
                    continue
        if self._folder is not None:
            self._folder.cleanup()

    def _facts(self, one: Started, note: dict[str, Any] | None) -> dict[str, Any]:
        state = one.state()
        done, total = (note.get("done"), note.get("total")) if note and state == "running" else (None, None)
        return {
            "key": one.key, "line": line(one.words), "state": state, "code": one.process.poll(), "began": one.began,
            "ended": one.ended, "output": _tail(one.log), "done": done, "total": total,
        }  # fmt: skip


def _interrupt(one: Started) -> None:
    if one.state() == "running":
        one.was_stopped = True
        one.process.send_signal(signal.SIGINT)


def _tail(log: Path) -> str:
    """Return the end of what was printed, with nothing in it that drives a terminal or turns text around."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL))
        text = file.read(TAIL).decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in text)


def _pid(note: dict[str, Any]) -> int:
    owner = note.get("owner")
    pid = owner.get("pid") if isinstance(owner, dict) else None
    return pid if isinstance(pid, int) else 0
