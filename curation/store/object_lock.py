"""A lock as an object of a store on S3, taken, renewed and given back by conditional puts.

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
from email.utils import parsedate_to_datetime
from typing import Any

from reelwright.curation.extras import install_for_protocol
from reelwright.curation.store import owner as owners
from reelwright.curation.store import seen
from reelwright.curation.store.errors import StoreError, lance_reason

PROTOCOLS = ("s3://", "s3a://")
OPTIONS = {
    "endpoint_url": ("aws_endpoint_url", "aws_endpoint", "endpoint_url", "endpoint"),
    "key": ("aws_access_key_id", "access_key_id"),
    "secret": ("aws_secret_access_key", "secret_access_key"),
    "token": ("aws_session_token", "session_token", "aws_token", "token"),
}
"""s3fs's name of an option -> Lance's names."""
LOST = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")


@dataclass(frozen=True)
class _Found:
    """The lock as it is. tag: of its content; age_s: since it was written, by the server's clock."""

    owner: dict[str, Any]
    tag: str
    age_s: float


class ObjectLock:
    """One lock object."""

    ask_every_s = 1.0

    def __init__(self, store: str, name: str, options: Mapping[str, str] | None = None) -> None:
        self.store = store
        self.key = f"{store}/{owners.FOLDER}/{name}.json"
        self.bucket, _, self.name = self.key.partition("://")[2].partition("/")
        self._tag = ""
        self._files = _file_system(options)

    def take(self, *, is_brief: bool = False) -> dict[str, Any]:
        """Take the lock and return the owner that was written. Raises StoreError if another process holds it."""
        owner = owners.this_process(is_brief=is_brief) | {"nonce": uuid.uuid4().hex}
        for _ in range(5):
            found = self._read()
            if found is None:
                condition = {"IfNoneMatch": "*"}
            elif found.owner.get("free") or not self._lives(found):
                condition = {"IfMatch": found.tag}
                seen.note_all(self.store, found.owner.get("versions", {}))
            else:
                raise owners.busy(found.owner, self.key)
            if self._write(owner, **condition):
                return owner
        raise StoreError(f"{self.key} changes hands too quickly to be taken; try again in a moment.")

    def is_held_by(self, owner: dict[str, Any]) -> bool:
        """Return whether the lock is still this owner's."""
        found = self._read()
        return found is not None and found.owner.get("nonce") == owner["nonce"]

    def renew(self, owner: dict[str, Any]) -> bool:
        """Give a sign of life; false where the lock is another's, or the store does not answer for a while."""
        with suppress(OSError, StoreError):
            if self._write(owner, IfMatch=self._tag):
                return True
            found = self._read()  # an earlier sign of life was written, and neither its answer nor a look came back
            if found is not None and found.owner.get("nonce") == owner["nonce"]:
                self._tag = found.tag
                return self._write(owner, IfMatch=self._tag)
        return False

    def release(self, owner: dict[str, Any] | None) -> None:
        """Give the lock back, if it is still this owner's. A store that does not answer keeps it until it lapses."""
        if owner is not None:
            with suppress(OSError, StoreError):
                self._write(owner | {"free": True}, IfMatch=self._tag)

    def _lives(self, found: _Found) -> bool:
        """Return whether the owner lives: as a process of this machine, or by signs of life within its lease."""
        is_alive = owners.is_alive(found.owner)
        if is_alive is not None:
            return is_alive
        lease_s = float(found.owner.get("lease_s", owners.LEASE_S))
        if found.age_s < lease_s:
            return True
        end = time.monotonic() + owners.WATCH_S
        while time.monotonic() < end:
            time.sleep(min(1.0, owners.WATCH_S / 10))
            now = self._read()
            if now is None or now.tag != found.tag:
                return now is not None and not now.owner.get("free")
        return False

    def _write(self, owner: dict[str, Any], **condition: str) -> bool:
        """Write the lock under a condition; false where it does not hold.

        An answer may be lost, and the request repeated by the library: then the condition fails for our own content.
        """
        content = owner | {"beat": uuid.uuid4().hex, "versions": seen.of_store(self.store)}
        body = json.dumps(content).encode()
        try:
            answer = self._files.call_s3("put_object", Bucket=self.bucket, Key=self.name, Body=body, **condition)
        except Exception as error:  # s3fs hands on errors of its libraries
            if _code(error) not in LOST:
                raise StoreError(f"cannot write {self.key} ({lance_reason(error)}); check keys, endpoint.") from error
            found = self._read()
            if found is None or found.owner.get("beat") != content["beat"]:
                return False
            self._tag = found.tag
            return True
        self._tag = answer["ETag"]
        return True

    def _read(self) -> _Found | None:
        from fsspec.asyn import sync

        async def read() -> tuple[dict[str, Any], bytes]:
            answer = await self._files._call_s3("get_object", Bucket=self.bucket, Key=self.name)
            async with answer["Body"] as body:
                return answer, await body.read()

        try:
            answer, body = sync(self._files.loop, read)
        except FileNotFoundError:
            return None
        except Exception as error:  # s3fs hands on errors of its libraries
            raise StoreError(f"cannot read {self.key} ({lance_reason(error)}); check keys and endpoint.") from error
        try:
            content = json.loads(body)
        except ValueError:
            content = {}
        headers = answer["ResponseMetadata"]["HTTPHeaders"]
        now = parsedate_to_datetime(headers["date"]) if "date" in headers else answer["LastModified"]
        age_s = (now - answer["LastModified"]).total_seconds()
        return _Found(content if isinstance(content, dict) else {}, answer["ETag"], age_s)


def _file_system(options: Mapping[str, str] | None) -> Any:
    try:
        import s3fs
    except ImportError:
        raise StoreError(f"the lock of a store on s3:// needs s3fs; {install_for_protocol('s3')}.") from None
    given = {name.lower(): value for name, value in (options or {}).items()}
    known = {ours: next((given[n] for n in theirs if n in given), None) for ours, theirs in OPTIONS.items()}
    return s3fs.S3FileSystem(**{name: value for name, value in known.items() if value is not None})


def _code(error: BaseException) -> str:
    """Return S3's code of an error; s3fs keeps it in the cause."""
    response = getattr(error, "response", None) or getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))
