"""Results of curation's steps that travel between processes and become rows: a failure, and the facts of one file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from reelwright.curation.media.errors import MediaError

UNMEASURABLE = "unmeasurable"  # kind: no failure, for the clip has nothing that the annotator measures


@dataclass(frozen=True)
class Failed:
    """A failure of one file, one clip or one annotator: a result like any other, never an exception between processes.

    Args:
        stage: The stage or annotator that failed.
        message: One sentence for the person who reads `reel failures`.
        detail: Traceback or output of the library, where there is some.
        kind: Kind of a `MediaError` ("io", "limit" …), or `UNMEASURABLE`; empty for every other cause.
        postponed: A later run should ask again (server away, limit of cost spent); nothing is wrong with the clip.
    """

    stage: str
    message: str
    detail: str = ""
    kind: str = ""
    postponed: bool = False

    @classmethod
    def by(cls, stage: str, error: MediaError) -> Failed:
        """Return the failure of a stage that decoding stopped."""
        return cls(stage, str(error), error.detail, error.kind)

    @property
    def is_unread(self) -> bool:
        """The bytes could not be read, which says nothing of the file itself."""
        return self.kind == "io"

    @property
    def is_unmeasurable(self) -> bool:
        """An annotator is done with the clip, and its columns are null: the message says why."""
        return self.kind == UNMEASURABLE

    def at(self, stage: str) -> Failed:
        """Return the same failure, charged to another stage or annotator."""
        return replace(self, stage=stage)


Status = tuple[int, int] | None
"""Size in bytes and time of change in ns of a local file; None for a remote one, which is taken to stay as it is."""


@dataclass(frozen=True)
class Probed:
    """Facts of one file, as far as they could be read.

    Args:
        md5: MD5 of its bytes, in hex.
        num_bytes: Its size.
        mtime_ns: Its time of change; None for a remote file.
        info: Fields of `VideoInfo`.
        failed: The step that failed; values read before it stay.
        seconds: Time on the worker.
        node: Ray's id of the machine that may hold a copy of a remote file.
    """

    md5: str | None = None
    num_bytes: int | None = None
    mtime_ns: int | None = None
    info: dict[str, Any] | None = None
    failed: Failed | None = None
    seconds: float = 0.0
    node: str = ""

    @property
    def status(self) -> Status:
        """Size and time of change when the file was probed; None for a remote one."""
        return None if self.mtime_ns is None or self.num_bytes is None else (self.num_bytes, self.mtime_ns)
