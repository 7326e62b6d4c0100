"""A failure of one file, as a fact that fits a row of `failures`."""

from dataclasses import dataclass
from typing import Literal

from reelwright.errors import ReelError

Kind = Literal[
    "io", "empty", "text", "pointer", "playlist", "not_video", "encrypted", "truncated", "open", "no_video",
    "decode", "encode", "crash", "timeout", "memory", "limit", "bug",
]  # fmt: skip


@dataclass
class MediaError(ReelError):
    """One file's failure: `message` is a sentence for a person, `detail` the tail of the decoder's output."""

    kind: Kind
    message: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"
