"""One small object of an object store, written only where it is still the one that was read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Protocol

from reelwright.curation.extras import install_for_protocol
from reelwright.curation.store import traffic
from reelwright.curation.store.errors import StoreError, lance_reason

S3 = "s3://"
OTHERS = ("gs://", "az://", "abfss://")
PROTOCOLS = (S3, *OTHERS)
"""Of the stores that Lance opens, those whose services know conditional puts."""
S3_OPTIONS = {
    "endpoint_url": ("aws_endpoint_url", "aws_endpoint", "endpoint_url", "endpoint"),
    "key": ("aws_access_key_id", "access_key_id"),
    "secret": ("aws_secret_access_key", "secret_access_key"),
    "token": ("aws_session_token", "session_token", "aws_token", "token"),
}
"""s3fs's name of an option -> Lance's names."""
S3_LOST = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")
CLIENT_OPTIONS = ("allow_http", "allow_invalid_certificates", "proxy_url", "timeout", "connect_timeout")
PATIENCE = {"max_retries": 5, "retry_timeout": timedelta(seconds=20)}


@dataclass(frozen=True)
class Content:
    """What an object holds. tag: of this content; written, now: by the server's clock, the latter where it says so."""

    body: bytes
    tag: Any
    written: datetime
    now: datetime | None = None


class ConditionalObject(Protocol):
    """An object that is read whole and written under a condition. All raise StoreError where the service fails."""

    def read(self) -> Content | None:
        """Return the content, None where there is no object."""

    def write(self, body: bytes, tag: Any) -> Any:
        """Write where the content still has this tag (None: where there is no object); return the new tag, or None."""

    def age_s(self, content: Content) -> float:
        """Return the seconds since the content was written, by the server's clock alone."""


def conditional_object(folder: str, name: str, options: Mapping[str, str] | None) -> ConditionalObject:
    """Return the object `name` below the address `folder`. options: of the object store, as Lance takes them."""
    return (_S3Object if folder.startswith(S3) else _OtherObject)(folder, name, options or {})


class _S3Object:
    """By s3fs, which finds keys where Lance does: in the environment, in a profile, from the machine's role."""

    def __init__(self, folder: str, name: str, options: Mapping[str, str]) -> None:
        try:
            import s3fs
        except ImportError:
            raise StoreError(f"the lock of a store on s3:// needs s3fs; {install_for_protocol('s3')}.") from None
        self.key = f"{folder}/{name}"
        bucket, _, key = self.key.removeprefix(S3).partition("/")
        self.place = {"Bucket": bucket, "Key": key}
        given = {name.lower(): value for name, value in options.items()}
        known = {ours: next((given[n] for n in theirs if n in given), None) for ours, theirs in S3_OPTIONS.items()}
        self.files = s3fs.S3FileSystem(**{name: value for name, value in known.items() if value is not None})

    def read(self) -> Content | None:
        from fsspec.asyn import sync

        async def read() -> tuple[dict[str, Any], bytes]:
            answer = await self.files._call_s3("get_object", **self.place)
            async with answer["Body"] as body:
                return answer, await body.read()

        try:
            answer, body = sync(self.files.loop, read)
        except FileNotFoundError:
            traffic.note(read=0)
            return None
        except Exception as error:  # s3fs hands on errors of its libraries
            raise _failed("read", self.key, error) from error
        traffic.note(read=len(body))
        headers = answer["ResponseMetadata"]["HTTPHeaders"]
        now = parsedate_to_datetime(headers["date"]) if "date" in headers else None
        return Content(body, answer["ETag"], answer["LastModified"], now)

    def write(self, body: bytes, tag: Any) -> Any:
        condition = {"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag}
        traffic.note(written=len(body))
        try:
            return self.files.call_s3("put_object", Body=body, **self.place, **condition)["ETag"]
        except Exception as error:  # s3fs hands on errors of its libraries
            if _s3_code(error) in S3_LOST:
                return None
            raise _failed("write", self.key, error) from error

    def age_s(self, content: Content) -> float:
        return ((content.now or content.written) - content.written).total_seconds()


class _OtherObject:
    """By the library that Lance itself uses on these services, with the same options and variables."""

    def __init__(self, folder: str, name: str, options: Mapping[str, str]) -> None:
        protocol = folder.partition("://")[0]
        try:
            import obstore
        except ImportError:
            install = install_for_protocol(protocol)
            raise StoreError(f"the lock of a store on {protocol}:// needs obstore; {install}.") from None
        self.key, self.name, self.library, self._lost = f"{folder}/{name}", name, obstore, obstore.exceptions
        prefix = "google_" if protocol == "gs" else "azure_"
        given = {name.lower(): value for name, value in options.items()}
        client = {name.removeprefix(prefix): given.pop(name) for name in list(given)
                  if name.removeprefix(prefix) in CLIENT_OPTIONS}  # fmt: skip
        if allow_http := os.environ.get(f"{prefix}allow_http".upper()):
            client.setdefault("allow_http", allow_http)  # Lance reads it, and this library only as an option
        try:
            self.store = obstore.store.from_url(folder, config=given, client_options=client, retry_config=PATIENCE)
        except Exception as error:  # the library's, of many kinds
            raise _failed("reach", self.key, error) from error

    def read(self) -> Content | None:
        try:
            found = self.library.get(self.store, self.name)
            body = bytes(found.bytes())
        except FileNotFoundError:
            traffic.note(read=0)
            return None
        except Exception as error:  # the library's, of many kinds
            raise _failed("read", self.key, error) from error
        traffic.note(read=len(body))
        return Content(body, _tag(found.meta), found.meta["last_modified"])

    def write(self, body: bytes, tag: Any) -> Any:
        traffic.note(written=len(body))
        try:
            return _tag(self.library.put(self.store, self.name, body, mode=tag or "create"))
        except (FileNotFoundError, self._lost.AlreadyExistsError, self._lost.PreconditionError):
            return None
        except Exception as error:  # the library's, of many kinds
            raise _failed("write", self.key, error) from error

    def age_s(self, content: Content) -> float:
        """Take the server's time from an object written now: the library shows no header of an answer."""
        traffic.note(written=0)
        traffic.note(read=0)
        try:
            self.library.put(self.store, f"{self.name}.clock", b"")
            now = self.library.head(self.store, f"{self.name}.clock")["last_modified"]
        except Exception as error:  # the library's, of many kinds
            raise _failed("read the time of", self.key, error) from error
        return (now - content.written).total_seconds()


def _tag(about: Mapping[str, Any]) -> dict[str, str]:
    """Return what names a content: Azure compares the first, Google Cloud the second."""
    return {name: about[name] for name in ("e_tag", "version") if about[name] is not None}


def _failed(verb: str, key: str, error: Exception) -> StoreError:
    return StoreError(f"cannot {verb} {key} ({lance_reason(error)}); check keys and endpoint.")


def _s3_code(error: BaseException) -> str:
    """Return S3's code of an error; s3fs keeps it in the cause."""
    response = getattr(error, "response", None) or getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))
