"""Where an index of sources lies: a folder of the store, or copies of the objects beside remote tables."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from reelwright.curation.store.connection import Connection

FOLDER = "_known"


class Shelf:
    """Files by name, each written once. `folder` is where they lie on this machine; it may not be there yet."""

    def __init__(self, store: Connection) -> None:
        self._remote: Any = None
        if store.path is not None:
            self.folder = store.path / FOLDER
            return
        from lance.file import LanceFileSession

        self._remote = LanceFileSession(f"{store.uri}/{FOLDER}", storage_options=store.storage_options)
        self._copies = tempfile.TemporaryDirectory(prefix="reel-known-")  # goes with us
        self._there = set[str]()
        self.folder = Path(self._copies.name)

    def fetch(self, name: str) -> Path:
        """Return the path of a file. Raises OSError where there is none."""
        path = self.folder / name
        if self._remote is not None and name not in self._there:
            self._remote.download_file(name, path)
            self._there.add(name)
        return path

    def put(self, names: Iterable[str], last: str) -> None:
        """Keep files that were written to the folder, for good.

        Args:
            names: of files that are written once.
            last: one that names them, and is replaced whole: it lies beside, as `last.new`.
        """
        for name in names:
            if self._remote is None:
                _sync(self.folder / name)
            elif name not in self._there:
                self._remote.upload_file(self.folder / name, name)
                self._there.add(name)
        beside = self.folder / f"{last}.new"
        _sync(beside)
        os.replace(beside, self.folder / last)
        if self._remote is not None:
            self._remote.upload_file(self.folder / last, last)

    def drop_others(self, names: Iterable[str]) -> None:
        """Delete all files but these."""
        kept = set(names)
        for path in self.folder.iterdir():
            if path.name not in kept:
                path.unlink(missing_ok=True)
        if self._remote is not None:
            there = {path.rpartition("/")[2] for path in self._remote.list()}
            for name in there - kept:
                self._remote.delete_file(name)


def _sync(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())
