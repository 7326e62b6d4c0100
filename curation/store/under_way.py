"""Notes of runs that go on: a file per run beside a local store's tables, so that others can watch.

The row in `runs` comes when a run ends. A run that is killed leaves its note, which says how far it came; the next run
of the same command takes it away. A store on an object store has no notes.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from reelwright.curation.store.owner import is_alive, this_process

FOLDER = "_running"
EVERY_S = 1.0
"""Between two writings of one run's note."""
SILENT_S = 900.0
"""Age of a note of another machine's run from which that run is taken for lost."""
MAX_BYTES = 1 << 20
RUNNING, LOST = "running", "lost"


class Note:
    """The note of one run, written at the first `show` and removed by `end`.

    Args:
        uri: the store's.
        facts: what stays the same, such as the command.
    """

    def __init__(self, uri: str, facts: Mapping[str, Any]) -> None:
        self._file = None if "://" in uri else Path(uri).expanduser() / FOLDER / f"{uuid.uuid4().hex[:16]}.json"
        self._facts, self._at, self._owner = dict(facts), 0.0, this_process()

    def show(self, **now: Any) -> None:
        """Write how far the run is; cheap enough to call in a loop. A disk that refuses costs the note alone."""
        if self._file is None or time.monotonic() - self._at < EVERY_S:
            return
        with suppress(OSError):
            if not self._at:
                self._file.parent.mkdir(exist_ok=True)
                _forget_lost(self._file.parent, self._facts)
            draft = self._file.with_suffix(".part")
            draft.write_text(json.dumps({**self._facts, **now, "owner": self._owner}, default=str), encoding="utf-8")
            draft.replace(self._file)
        self._at = time.monotonic()

    def end(self) -> None:
        """Take the note away."""
        if self._file is not None and self._at:
            with suppress(OSError):
                self._file.unlink(missing_ok=True)


def under_way(uri: str) -> list[dict[str, Any]]:
    """Return the runs that go on, and those that were killed, the newest first: their notes, `state` and `seen_at`.

    state: running, or lost where its process is gone. seen_at: of its last sign of life, seconds since 1970.
    """
    if "://" in uri:
        return []
    found = [note for file in (Path(uri) / FOLDER).glob("*.json") if (note := _read(file)) is not None]
    return sorted(found, key=lambda note: -note["seen_at"])


def _read(file: Path) -> dict[str, Any] | None:
    """Return a note; None for one that ended in this moment, or is none."""
    try:
        about = file.stat()
        if about.st_size > MAX_BYTES:
            return None
        said = json.loads(file.read_text(encoding="utf-8"))
        owner = said["owner"]
        alive = is_alive(owner) if isinstance(owner, dict) else False
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None
    if alive is None:
        alive = time.time() - about.st_mtime < SILENT_S
    return {**said, "state": RUNNING if alive else LOST, "seen_at": about.st_mtime}


def _forget_lost(folder: Path, facts: Mapping[str, Any]) -> None:
    for file in folder.glob("*.json"):
        note = _read(file)
        if note and note["state"] == LOST and note.get("command") == facts.get("command"):
            file.unlink(missing_ok=True)
