"""What a run is doing, written beside the tables of its store every few seconds, for `reel status` elsewhere."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FOLDER = "_status"
EVERY_S, EVERY_S_REMOTE = 2.0, 15.0
SILENT_S = 60.0
"""Without a sign of life, after which a run is said to be silent: killed, or its machine stands still."""
KEPT = 20
"""Runs whose last words stay."""


class Status:
    """Tells what one run is doing. A store that refuses the file costs the file, not the run."""

    def __init__(self, store: str, command: str) -> None:
        self.files = _Folder(store)
        self.every_s = EVERY_S if self.files.is_local else EVERY_S_REMOTE
        self.began = time.time()
        self.name = f"{int(self.began)}-{uuid.uuid4().hex[:6]}.json"
        self.facts: dict[str, Any] = {
            "command": command, "pid": os.getpid(), "host": socket.gethostname(), "began": self.began,
            "state": "running",
        }  # fmt: skip
        self._told_at = 0.0
        self._newest: Callable[[], Mapping[str, Any]] = dict
        self._writing: threading.Thread | None = None

    def tell(self, facts: Callable[[], Mapping[str, Any]]) -> None:
        """Tell what is known now, if it is time to; cheap enough to call in a loop. facts: called when it is."""
        self._newest = facts
        if time.monotonic() - self._told_at < self.every_s or (self._writing is not None and self._writing.is_alive()):
            return
        self._told_at = time.monotonic()
        self.facts |= facts()
        text = self._text()
        if self.files.is_local:
            self.files.write(self.name, text)
        else:  # a store far away must not hold up the driver
            self._writing = threading.Thread(target=self.files.write, args=(self.name, text), daemon=True)
            self._writing.start()

    def end(self, state: str) -> None:
        """Say how the run ended, and forget old runs."""
        if self._writing is not None:
            self._writing.join(timeout=10)
        self.facts |= dict(self._newest()) | {"state": state}
        self.files.write(self.name, self._text())
        self.files.forget_all_but(KEPT)

    def _text(self) -> str:
        return json.dumps(self.facts | {"told": time.time()})


@contextmanager
def told(store: str, command: str) -> Iterator[Status]:
    """Tell of a run until the block ends, and then how."""
    status = Status(store, command)
    try:
        yield status
    except BaseException:
        status.end("interrupted")
        raise
    status.end("finished")


def read(store: str) -> list[dict[str, Any]]:
    """Return what runs told last, the newest first; `silent_s`: seconds since, of those that are running."""
    found = []
    for text in _Folder(store).read_all():
        try:
            facts = json.loads(text)
        except ValueError:
            continue
        if isinstance(facts, dict) and "began" in facts:
            facts["silent_s"] = max(0.0, time.time() - facts.get("told", 0)) if facts["state"] == "running" else 0.0
            found.append(facts)
    return sorted(found, key=lambda facts: -facts["began"])


class _Folder:
    """The folder of a store, local or not, that holds one small file per run."""

    def __init__(self, store: str) -> None:
        self.is_local, self.uri = "://" not in store, f"{store}/{FOLDER}"

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
        except Exception:  # each file system has its own; nothing depends on the file
            return

    def read_all(self) -> list[str]:
        if self.is_local:
            return [path.read_text() for path in Path(self.uri).glob("*.json")] if Path(self.uri).is_dir() else []
        files, path = self._files()
        try:
            return [files.cat_file(name).decode() for name in files.ls(path, detail=False) if name.endswith(".json")]
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
