"""Inputs of a run: `Input`, `Span`, `Skipped`; and the addresses that are allowed."""

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from pydantic import BaseModel, Field

from reelwright.errors import ReelError

WEB = ("http", "https", "ftp")
STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "memory")  # fsspec's; memory is for tests
FILE = re.compile("file://", re.IGNORECASE)


class IngestError(ReelError, ValueError):
    """An input that cannot be used: one sentence with what to do."""


class ManifestConfig(BaseModel, frozen=True, extra="forbid"):
    """How lists of videos are understood."""

    repeated_ids: Literal["duplicate", "keep", "refuse"] = Field(
        "duplicate",
        description="several files with one source_id: duplicate (the first by uri is kept, the others are counted as "
        "duplicates and named), keep (each is a video of its own), refuse (the run does not begin)",
    )
    spans: Literal["cut", "ignore"] = Field(
        "cut", description="columns such as start and end: cut (clips lie inside of them), ignore (the whole file)"
    )


@dataclass(frozen=True, order=True)
class Span:
    """A part of a file that a manifest names, in seconds from its first frame; `end_s` is infinite for "to the end"."""

    start_s: float
    end_s: float
    captions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Input:
    """A file to ingest. `source_id` is the publisher's id (a platform's video id, say), where a manifest has one.

    captions: of the whole file. spans: parts of it, sorted; none: all of it. refused: why a manifest's row cannot be
    used; such a row is an input too, with `manifest#row N` for its uri, so that it is counted and fails alone. is_row:
    a manifest's, which without spans asks for the whole file beside the parts that other rows name.
    """

    uri: str
    source_id: str | None = None
    licence: str | None = None
    captions: tuple[str, ...] = ()
    spans: tuple[Span, ...] = ()
    refused: str | None = None
    is_row: bool = field(default=False, compare=False)

    @property
    def caption(self) -> str | None:
        """The first caption of the whole file."""
        return self.captions[0] if self.captions else None

    def joined(self, other: "Input") -> "Input":
        """Return one input for a file that is named twice: gaps are filled, captions and spans add up.

        Beside rows with spans, one without any stands for a span from the start to the end, with its captions.
        """
        spans = _joined_spans([*self._parts(), *other._parts()]) if self.spans or other.spans else ()
        return replace(
            self,
            source_id=self.source_id or other.source_id,
            licence=self.licence or other.licence,
            captions=_each_once([*self.captions, *other.captions]),
            spans=spans,
            is_row=self.is_row or other.is_row,
        )

    def _parts(self) -> tuple[Span, ...]:
        return self.spans or ((Span(0.0, math.inf, self.captions),) if self.is_row else ())


@dataclass(frozen=True, order=True)
class Skipped:
    """A file or folder that was found and is not read. reason: a few words, the same for all of a kind."""

    path: str  # as it is on the disk: bytes that are not UTF-8 are kept as surrogates
    reason: str


@dataclass(frozen=True)
class RepeatedId:
    """An id that several files have. first: of them, by uri."""

    source_id: str
    files: int
    first: str


@dataclass(frozen=True)
class RepeatedIds:
    """Ids that several files have: how many, and some, the first by the uri of their first file."""

    count: int = 0
    some: tuple[RepeatedId, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.count)


@dataclass
class Inputs:
    """Files to ingest, sorted by uri, each once; and the files that were skipped, so that nothing is lost silently.

    repeated_ids: of several files. unread_columns: manifest that was read -> its columns that nothing was taken from.
    """

    files: Sequence[Input]
    skipped: Collection[Skipped] = ()
    repeated_ids: RepeatedIds = RepeatedIds()
    unread_columns: dict[str, list[str]] = field(default_factory=dict)

    @property
    def refused(self) -> Sequence[Input]:
        """Rows of manifests that cannot be used."""
        known: Sequence[Input] | None = getattr(self.files, "refused", None)  # a `Listing` looks at no other
        return known if known is not None else [item for item in self.files if item.refused]

    def skipped_by_reason(self) -> list[tuple[str, int]]:
        """Return (reason, number of files) of skipped files, the most frequent first."""
        return by_reason(self.skipped)


def by_reason(skipped: Collection[Skipped]) -> list[tuple[str, int]]:
    """Return (reason, number of files) of skipped files, the most frequent first."""
    known: Counter[str] | None = getattr(skipped, "by_reason", None)  # `SkippedFiles` counted them
    counts = Counter(s.reason for s in skipped) if known is None else known
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def protocol_of(uri: str, allow_http: bool) -> str:
    """Return the protocol of a URI.

    Raises:
        IngestError: the URI is of the web where that is not allowed, is a chain (which hides a protocol), or has a
            protocol that reaches further than a file: archives and caches over any address, other machines' shells.
    """
    if "::" in uri:
        raise IngestError(f"{uri} chains protocols by '::'; give the plain URI of a file")
    protocol, _, rest = uri.partition("://")
    protocol, authority = protocol.lower(), rest.partition("/")[0]
    if "@" in authority and protocol in WEB:
        host = authority.rpartition("@")[2]
        raise IngestError(
            f"{protocol}://…@{host} holds a user or a password, and addresses are kept in the store; have the server "
            "let this machine in without, or download the files"
        )
    if protocol in WEB and not allow_http:
        raise WebError(f"{uri} is on the web; add --allow-http (recipe: allow_http: true) to fetch it")
    if protocol not in WEB + STORES:
        raise IngestError(f"{uri}: {protocol}:// is not read; give a path, s3://, gs://, az:// or http(s)://")
    return protocol


class WebError(IngestError):
    """An address on the web, and no leave to ask it: a matter of the command, not of the one input."""


def is_unicode(name: str) -> bool:
    """Return whether a name is Unicode.

    The store's columns hold nothing else, and the name must find the file again.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _each_once(captions: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(captions))


def _joined_spans(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Sorted, each pair of times once, with the captions of all that name it."""
    captions: dict[tuple[float, float], list[str]] = {}
    for span in spans:
        captions.setdefault((span.start_s, span.end_s), []).extend(span.captions)
    return tuple(Span(*times, _each_once(captions[times])) for times in sorted(captions))
