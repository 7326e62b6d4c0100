"""A lock as an object of a store, taken, renewed and given back by conditional puts.

Its owner writes it anew every few seconds. It stays when it is given back, says that it is free, and names the newest
version of each table that its owner wrote: whoever takes it next reads no older one, whatever an old listing shows.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from reelwright.curation.store import conditional, seen
from reelwright.curation.store import owner as owners
from reelwright.curation.store.errors import StoreError

PROTOCOLS = conditional.PROTOCOLS


@dataclass(frozen=True)
class _Found:
    """The lock as it is."""

    owner: dict[str, Any]
    content: conditional.Content

    @property
    def tag(self) -> Any:
        return self.content.tag


class ObjectLock:
    """One lock object."""

    ask_every_s = 1.0

    def __init__(self, store: str, name: str, options: Mapping[str, str] | None = None) -> None:
        self.store = store
        self.key = f"{store}/{owners.FOLDER}/{name}.json"
        self._object = conditional.conditional_object(f"{store}/{owners.FOLDER}", f"{name}.json", options)
        self._tag: Any = None

    def take(self, *, is_brief: bool = False) -> dict[str, Any]:
        """Take the lock and return the owner that was written. Raises StoreError if another process holds it."""
        owner = owners.this_process(is_brief=is_brief) | {"nonce": uuid.uuid4().hex}
        for _ in range(5):
            found = self._read()
            if found is not None:
                if not found.owner.get("free") and self._lives(found):
                    raise owners.busy(found.owner, self.key)
                seen.note_all(self.store, found.owner.get("versions", {}))
            if self._write(owner, found.tag if found else None):
                return owner
        raise StoreError(f"{self.key} changes hands too quickly to be taken; try again in a moment.")

    def is_held_by(self, owner: dict[str, Any]) -> bool:
        """Return whether the lock is still this owner's."""
        found = self._read()
        return found is not None and found.owner.get("nonce") == owner["nonce"]

    def renew(self, owner: dict[str, Any]) -> bool:
        """Give a sign of life; false where the lock is another's, or the store does not answer for a while."""
        with suppress(OSError, StoreError):
            if self._write(owner, self._tag):
                return True
            found = self._read()  # an earlier sign of life was written, and neither its answer nor a look came back
            if found is not None and found.owner.get("nonce") == owner["nonce"]:
                self._tag = found.tag
                return self._write(owner, self._tag)
        return False

    def release(self, owner: dict[str, Any] | None) -> None:
        """Give the lock back, if it is still this owner's. A store that does not answer keeps it until it lapses."""
        if owner is not None:
            with suppress(OSError, StoreError):
                self._write(owner | {"free": True}, self._tag)

    def _lives(self, found: _Found) -> bool:
        """Return whether the owner lives: as a process of this machine, or by signs of life within its lease."""
        is_alive = owners.is_alive(found.owner)
        if is_alive is not None:
            return is_alive
        lease_s = float(found.owner.get("lease_s", owners.LEASE_S))
        if self._object.age_s(found.content) < lease_s:
            return True
        end = time.monotonic() + owners.WATCH_S
        while time.monotonic() < end:
            time.sleep(min(1.0, owners.WATCH_S / 10))
            now = self._read()
            if now is None or now.tag != found.tag:
                return now is not None and not now.owner.get("free")
        return False

    def _write(self, owner: dict[str, Any], tag: Any) -> bool:
        """Write the lock where its content still has this tag (None: where there is none yet); false where it has not.

        An answer may be lost, and the request repeated by the library: then the condition fails for our own content.
        """
        content = owner | {"beat": uuid.uuid4().hex, "versions": seen.of_store(self.store)}
        written = self._object.write(json.dumps(content).encode(), tag)
        if written is None:
            found = self._read()
            if found is None or found.owner.get("beat") != content["beat"]:
                return False
            written = found.tag
        self._tag = written
        return True

    def _read(self) -> _Found | None:
        found = self._object.read()
        if found is None:
            return None
        try:
            content = json.loads(found.body)
        except ValueError:
            content = {}
        return _Found(content if isinstance(content, dict) else {}, found)
