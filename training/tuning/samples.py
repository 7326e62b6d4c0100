"""What a model is tuned on: videos by reference, and what is said of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

Reason = Literal[
    "line", "form", "files", "picture", "part", "answer", "outside", "missing", "large", "decode", "size", "too_long",
    "rating",
]  # fmt: skip
REASONS: Mapping[Reason, str] = {
    "line": "the line is no JSON object, or too long",
    "form": "the conversation is of no known form",
    "files": "it names no video, or several, or its tags are not as many as its files",
    "picture": "it is about a picture",
    "part": "it is about a part of its video; cut that out as a video of its own",
    "answer": "it has no answer",
    "outside": "its video is named by a path out of the folder of videos",
    "missing": "its video is not there",
    "large": "its video's file is larger than is read",
    "decode": "its video does not decode",
    "size": "its video's frames cannot be shown to the model",
    "too_long": "it has more tokens than data.max_tokens",
    "rating": "its rating is out of the scale, or of a dimension that the recipe has not",
}
"""Why a sample is left out, in words."""


@dataclass(frozen=True)
class VideoRef:
    """A video. kind: a file's path, a clip of the store, or a generation of an evaluation. name: path or id."""

    kind: Literal["file", "clip", "generation"]
    name: str


@dataclass(frozen=True)
class Turn:
    """A turn of a conversation. The first of the user is about the video."""

    role: Literal["system", "user", "assistant"]
    text: str


@dataclass(frozen=True)
class Sample:
    """A conversation about a video; every answer in it is learnt.

    key: of the sample. video: that it is about. turns: of the conversation; none: the use's own prompt is asked, and
    `answer` learnt. group: of samples that are held out together. prompt: that the video was made from. dimension: of a
    judgement. digits: share of each digit among people's scores, in place of the one in the answer.
    """

    key: str
    video: VideoRef
    turns: tuple[Turn, ...] = ()
    answer: str = ""
    group: str = ""
    prompt: str = ""
    dimension: str = ""
    digits: Mapping[str, float] = field(default_factory=dict)

    @property
    def videos(self) -> tuple[VideoRef, ...]:
        """The videos that it shows."""
        return (self.video,)


@dataclass(frozen=True)
class Pair:
    """Two videos of one prompt, and people's choices between them.

    key: of the pair. first, second: the videos. prompt: that both were made from. choices: by dimension: 1 (the first
    is better), 0 (same) or -1. group: of pairs that are held out together.
    """

    key: str
    first: VideoRef
    second: VideoRef
    prompt: str
    choices: Mapping[str, int]
    group: str = ""

    @property
    def videos(self) -> tuple[VideoRef, ...]:
        """The videos that it shows."""
        return (self.first, self.second)


Item = Sample | Pair


@dataclass(frozen=True)
class LeftOut:
    """A sample that is not trained on. key: of it, or the place of its line. why: one sentence's detail."""

    key: str
    reason: Reason
    why: str = ""


def is_held_out(item: Item, share: float, seed: int) -> bool:
    """Return whether a sample is held out: by its group's name alone, so that more data moves no other sample."""
    digest = hashlib.sha256(f"{seed}:{item.group or item.key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def data_fingerprint(items: Sequence[Item], contents: Mapping[VideoRef, str]) -> str:
    """Return 16 hex digits over samples, in any order, and their videos' contents.

    Args:
        items: the samples.
        contents: a hash of each video's bytes.
    """
    told = (json.dumps([_said(one), [contents[v] for v in one.videos]], sort_keys=True) for one in items)
    digests = sorted(hashlib.sha256(text.encode()).hexdigest() for text in told)
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:16]


def _said(item: Item) -> dict[str, object]:
    """Return what is said of the videos, wherever they lie and however the sample is called."""
    return {name: value for name, value in asdict(item).items() if name not in _PLACES}


_PLACES = ("key", "video", "first", "second", "group")
