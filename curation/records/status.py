"""What a run is doing, written beside the tables of its store every few seconds, for `reel status` and `reel app`.

The row in `runs` comes when a run ends. A run that is killed leaves its last words, which say how far it came.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from reelwright.curation.store import traffic
from reelwright.curation.store.owner import is_alive, this_process

FOLDER = "_status"
EVERY_S, EVERY_S_REMOTE = 2.0, 15.0
SILENT_S, LOST_S = 60.0, 900.0
"""Without a sign of life, after which a run is said to be silent; of another machine, to be lost."""
KEPT = 20
"""Runs whose last words stay."""
MAX_BYTES, LATEST = 1 << 20, 1e11
"""Of a file, and of its times in seconds since 1970: what is more was written by no run."""
RUNNING, LOST = "running", "lost"


class Status:
    """Tells what one run is doing, from its first word on. A store that refuses the file costs the file, not the run.

    Args:
        store: address of the store.
        command: that runs.
    """

    def __init__(self, store: str, command: str) -> None:
        self._files = _Folder(store)
        self._every_s = EVERY_S if self._files.is_local else EVERY_S_REMOTE
        began = time.time()
        self._name = f"{int(began)}-{uuid.uuid4().hex[:6]}.json"
        self._facts = {"command": command, "owner": this_process(), "began": began, "state": RUNNING}
        self._newest: Callable[[], Mapping[str, Any]] = dict
        self._due_at = 0.0
        self._changed, self._ended = threading.Event(), threading.Event()
        self._writer: threading.Thread | None = None

    def tell(self, facts: Callable[[], Mapping[str, Any]]) -> None:
        """Tell what is known now, if it is time to; cheap enough to call in a loop. facts: called when it is."""
        self._newest = facts
        if self._writer is not None and time.monotonic() < self._due_at:
            return
        self._due_at = time.monotonic() + self._every_s
        self._facts = self._facts | dict(facts())
        self._changed.set()
        if self._writer is None:
            self._writer = threading.Thread(target=self._write_on, name="reel-status", daemon=True)
            self._writer.start()

    def end(self, state: str) -> None:
        """Say how the run ended, if it told of itself, and forget old runs."""
        if self._writer is None:
            return
        self._ended.set()
        self._changed.set()
        self._writer.join(timeout=10)
        self._facts = self._facts | dict(self._newest()) | {"state": state}
        self._write()
        self._files.forget_all_but(KEPT)

    def _write_on(self) -> None:
        """Write what is told, and signs of life between: apart, as a store far away must not hold up the run."""
        while not self._ended.is_set():
            self._changed.clear()
            self._write()
            self._changed.wait(self._every_s)

    def _write(self) -> None:
        self._files.write(self._name, json.dumps(self._facts | {"told": time.time()}, default=str))


def read(store: str) -> list[dict[str, Any]]:
    """Return what runs told last, the newest first.

    Their `state` is how they ended, "running", or "lost" where the process is gone, or one of another machine has been
    silent for LOST_S; `silent_s` is the seconds since a sign of life of those that run.
    """
    found = [facts for text, at in _Folder(store).read_all() if (facts := _read(text, at)) is not None]
    return sorted(found, key=lambda facts: -facts["began"])


def under_way(store: str) -> list[dict[str, Any]]:
    """Return the runs that go on, and those that were lost and whose command has not run since, the newest first."""
    seen = set[str]()
    found = []
    for facts in read(store):
        if facts["state"] == RUNNING or (facts["state"] == LOST and facts["command"] not in seen):
            found.append(facts)
        seen.add(facts["command"])
    return found


def _read(text: str, written: float | None) -> dict[str, Any] | None:
    """Return what a run told; None where the file is not one that a run wrote.

    written: when, by the clock of the store, as the one of the run's machine may be wrong; None where it does not say.
    """
    if len(text) > MAX_BYTES:
        return None
    try:
        facts = json.loads(text)
        began, told, owner = float(facts["began"]), float(facts["told"]), dict(facts["owner"])
        command, state = str(facts["command"]), str(facts["state"])
        if not (0 <= began < LATEST and 0 <= told < LATEST):
            return None
        silent_s = max(0.0, time.time() - (written or told)) if state == RUNNING else 0.0
        if state == RUNNING:
            alive = is_alive(owner)
            state = RUNNING if alive or (alive is None and silent_s < LOST_S) else LOST
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return facts | {
        "began": began, "told": told, "owner": owner, "command": command, "state": state, "silent_s": silent_s
    }  # fmt: skip


class _Folder:
    """The folder of a store, local or not, that holds one small file per run."""

    def __init__(self, store: str) -> None:
        self.is_local = "://" not in store
        self.uri = str(Path(store).expanduser() / FOLDER) if self.is_local else f"{store}/{FOLDER}"

    def write(self, name: str, text: str) -> None:
        try:
            if self.is_local:
                folder = Path(self.uri)
                folder.mkdir(exist_ok=True)
                draft = folder / f".{name}"
                draft.write_text(text)
                draft.replace(folder / name)
            else:
                files, path = self._files()
                files.pipe_file(f"{path}/{name}", text.encode())
                traffic.note(written=len(text.encode()))
        except Exception:  # each file system has its own; nothing depends on the file
            return

    def read_all(self) -> list[tuple[str, float | None]]:
        if self.is_local:
            return list(_texts(Path(self.uri)))
        files, path = self._files()
        try:
            listed = {
                one["name"]: _written(one) for one in files.ls(path, detail=True) if one["name"].endswith(".json")
            }
            found = files.cat_ranges(
                list(listed), 0, MAX_BYTES, on_error="return"
            )  # all at once; some are forgotten meanwhile
            told = zip(found, listed.values(), strict=True)
            return [(text.decode("utf-8", "replace"), at) for text, at in told if isinstance(text, bytes)]
        except FileNotFoundError:
            return []

    def forget_all_but(self, count: int) -> None:
        try:
            if self.is_local:
                for old in sorted(Path(self.uri).glob("*.json"))[:-count]:
                    old.unlink(missing_ok=True)
            else:
                files, path = self._files()
                for name in sorted(files.ls(path, detail=False))[:-count]:
                    files.rm_file(name)
        except Exception:  # as above
            return

    def _files(self) -> tuple[Any, str]:
        import fsspec

        files, path = fsspec.core.url_to_fs(self.uri)
        files.invalidate_cache()
        return files, path


def _texts(folder: Path) -> Iterator[tuple[str, float | None]]:
    for path in folder.glob("*.json"):
        with contextlib.suppress(OSError), path.open("rb") as file:  # one may be forgotten in this moment
            yield file.read(MAX_BYTES + 1).decode("utf-8", "replace"), os.fstat(file.fileno()).st_mtime


def _written(listed: Mapping[str, Any]) -> float | None:
    """Return when an object was written, which each of fsspec's file systems calls by a name of its own."""
    at = next((listed[name] for name in ("LastModified", "last_modified", "updated") if listed.get(name)), None)
    with contextlib.suppress(ValueError):
        at = datetime.fromisoformat(at) if isinstance(at, str) else at
    return at.timestamp() if isinstance(at, datetime) else None
