r"""The bodies of a reward service: JSON, and raw frames behind it. Nothing in them is decoded or unpickled.

    GET  /reward  -> 200 {"name", "version", "fingerprint", "parameters", "models"}
    POST /score   <- one line of JSON that ends with \n, then the frames of all videos, one after the other, as bytes
                     {"videos": [{"shape": [F, H, W, 3], "rate": 15.0, "prompt": "…", "given": 0}, …]}
                  -> 200 {"fingerprint": "…", "scores": [1.5, {"unscored": "why"}, …]}

shape: of uint8 RGB frames. rate: frames per second. given: first frames that were given, not made. Scores: one per
video, in their order. Any other status has {"error": "a sentence"}: 4xx where the request is at fault, 503 where the
service has enough to do. A key, where there is one, is sent as `Authorization: Bearer KEY`. Both sides state the length
of their bodies (Content-Length).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import numpy as np

from reelwright.annotate.chat.base import excerpt
from reelwright.training.rewards.contract import Score, Unscored, Video

LONGEST_LINE = 4 << 20  # bytes of the JSON before the frames
LONGEST_PROMPT = 100_000  # characters
MOST_VIDEOS = 1024
MOST_FRAMES, LONGEST_SIDE = 100_000, 16_384
LARGEST_REPLY = 4 << 20  # bytes


class BodyError(ValueError):
    """A body is not of this protocol; the message is a sentence."""


def packed(videos: Sequence[Video]) -> tuple[int, Iterable[bytes | memoryview]]:
    """Return the length in bytes and the parts of a request's body; frames are not copied."""
    frames = [np.ascontiguousarray(video.frames) for video in videos]
    line = {
        "videos": [
            {"shape": list(array.shape), "rate": video.rate, "prompt": video.prompt, "given": video.given}
            for video, array in zip(videos, frames, strict=True)
        ]
    }
    head = json.dumps(line).encode() + b"\n"
    return len(head) + sum(array.nbytes for array in frames), [head, *(array.reshape(-1).data for array in frames)]


def unpacked(body: bytes | bytearray) -> list[Video]:
    """Return the videos of a request's body, whose frames are views of it that cannot be written to.

    Raises:
        BodyError: it is not of the protocol.
    """
    end = body.find(b"\n", 0, LONGEST_LINE)
    if end < 0:
        raise BodyError(f"the body begins with no line of JSON of at most {LONGEST_LINE} bytes")
    stated = _object(bytes(body[:end])).get("videos")
    if not isinstance(stated, list) or not 1 <= len(stated) <= MOST_VIDEOS:
        raise BodyError(f"videos must be a list of 1 to {MOST_VIDEOS}")
    shapes = [_shape(one, place) for place, one in enumerate(stated)]
    sizes = [math.prod(shape) for shape in shapes]
    there = len(body) - end - 1
    if sum(sizes) != there:
        raise BodyError(f"the shapes are {sum(sizes)} bytes of frames, and {there} bytes follow the first line")
    pixels = memoryview(body).toreadonly()[end + 1 :]
    videos = []
    for place, (one, shape, size) in enumerate(zip(stated, shapes, sizes, strict=True)):
        frames = np.frombuffer(pixels[:size], np.uint8).reshape(shape)
        pixels = pixels[size:]
        videos.append(Video(frames, *_rest(one, len(frames), place)))
    return videos


def reply_of(fingerprint: str, scores: Sequence[Score]) -> dict[str, Any]:
    """Return the JSON that answers a request."""
    return {
        "fingerprint": fingerprint,
        "scores": [{"unscored": one.why} if isinstance(one, Unscored) else one for one in scores],
    }


def scores_of(reply: bytes, count: int) -> tuple[str, list[Score]]:
    """Return fingerprint and scores of a reply.

    Args:
        reply: its body.
        count: of the videos that it answers.

    Raises:
        BodyError: it is not of the protocol.
    """
    value = _object(reply)
    fingerprint, scores = value.get("fingerprint"), value.get("scores")
    if not isinstance(fingerprint, str) or not isinstance(scores, list):
        raise BodyError(f"the reply lacks fingerprint or scores: {excerpt(reply.decode('utf-8', 'replace'))}")
    if len(scores) != count:
        raise BodyError(f"the reply has {len(scores)} scores for {count} videos")
    return fingerprint, [_score(one) for one in scores]


def described_of(reply: bytes) -> dict[str, Any]:
    """Return what a service tells of its reward.

    Raises:
        BodyError: it is not of the protocol.
    """
    value = _object(reply)
    if not isinstance(value.get("fingerprint"), str):
        raise BodyError("the reply names no fingerprint, so this is no reward service")
    return value


def _score(one: Any) -> Score:
    if isinstance(one, dict) and isinstance(one.get("unscored"), str):
        return Unscored(excerpt(one["unscored"]))
    if isinstance(one, bool) or not isinstance(one, int | float):
        raise BodyError(f"a score of the reply is {excerpt(str(one))!r}, neither a number nor unscored")
    return float(one)


def _shape(one: Any, place: int) -> tuple[int, ...]:
    shape: Any = one.get("shape") if isinstance(one, dict) else None
    most = (MOST_FRAMES, LONGEST_SIDE, LONGEST_SIDE, 3)
    is_whole = isinstance(shape, list) and all(type(n) is int for n in shape)
    if not is_whole or len(shape) != 4 or not all(1 <= n <= m for n, m in zip(shape, most, strict=True)):
        raise BodyError(f"videos[{place}].shape is {excerpt(str(shape))}; it must be [F, H, W, 3] up to {list(most)}")
    if shape[3] != 3:
        raise BodyError(f"videos[{place}].shape has {shape[3]} channels; it must have 3, of RGB")
    return tuple(shape)


def _rest(one: dict[str, Any], frames: int, place: int) -> tuple[float, str, int]:
    rate, prompt, given = one.get("rate"), one.get("prompt"), one.get("given", 0)
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate <= 1000:
        raise BodyError(f"videos[{place}].rate is {excerpt(str(rate))}; it must be frames per second, at most 1000")
    if not isinstance(prompt, str) or len(prompt) > LONGEST_PROMPT:
        raise BodyError(f"videos[{place}].prompt must be a text of at most {LONGEST_PROMPT} characters")
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given <= frames:
        raise BodyError(f"videos[{place}].given is {excerpt(str(given))}; it must be from 0 to its {frames} frames")
    return float(rate), prompt.encode("utf-16", "surrogatepass").decode("utf-16", "replace"), given


def _object(text: bytes) -> dict[str, Any]:
    shown = excerpt(text[:2000].decode("utf-8", "replace"))
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise BodyError(f"{shown!r} is no JSON: {excerpt(str(error))}") from None
    if not isinstance(value, dict):
        raise BodyError(f"{shown!r} is no JSON object")
    return value


def _finite(number: str) -> float:
    value = float(number)
    return value if math.isfinite(value) else _refuse(number)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name[:20]} is no finite number")
