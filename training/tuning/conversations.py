"""Files of conversations about videos, in the forms that the field has them; nothing in them is trusted.

- Qwen's and LLaVA's: {"video": PATH, "conversations": [{"from": "human", "value": "<video> …"}, {"from": "gpt", …}]}
- of chats: {"messages": [{"role": "user", "content": [{"type": "video", "video": PATH}, {"type": "text", …}]}, …]}
- Tarsier's, with DREAM-1K's events: {"video_file": PATH, "text": {"prompt": "<video> …", "response": …},
  "extra_info": {"events": […]}}
- Tarsier2's: {"messages": …} as of chats, each video as {"video_file": PATH}; in benchmarks an answer's `text` is empty
  and its `reference` is what it should be; "extra_info" as above
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reelwright.errors import first_line
from reelwright.training.errors import TrainError
from reelwright.training.tuning.samples import LeftOut, Reason, Sample, Turn, VideoRef

LONGEST_LINE = 1 << 20  # bytes
LARGEST_LIST = 1 << 30  # bytes of a .json file, which is read whole
MOST_TURNS = 64
TAGS = ("<video>", "<|video_pad|>")
WHOLE: Mapping[str, tuple[Any, ...]] = {
    "start_time": (0,), "end_time": (-1,), "start_frame": (0,), "end_frame": (-1,), "frame_indices": (),
    "time_indices": (), "video_start": (0,), "video_end": (-1,),
}  # fmt: skip
"""Keys that name a part of a video, and their values, beside null, that name all of it."""
SPEAKERS: Mapping[str, Any] = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system",
}  # fmt: skip


class _Bad(ValueError):
    """A sample that cannot be used."""

    def __init__(self, reason: Reason, why: str) -> None:
        super().__init__(why)
        self.reason: Reason = reason


def read_conversations(path: Path, videos: Path) -> Iterator[Sample | LeftOut]:
    """Yield the samples of a .jsonl or .json file, in its order; a bad one becomes a `LeftOut`.

    Args:
        path: of the file.
        videos: folder that its video paths are in; a path out of it is left out.

    Raises:
        TrainError: the file cannot be read, or a .json file is no list.
    """
    root = videos.resolve()
    for number, found in _objects(path):
        key = f"{path.name}:{number}"
        if isinstance(found, LeftOut):
            yield found
            continue
        try:
            yield _sample(key, found, root)
        except _Bad as bad:
            yield LeftOut(key, bad.reason, str(bad))


@dataclass(frozen=True)
class ReferenceEvents:
    """Events of a reference. subset: of its data set, `dataset` in Tarsier's form; empty: none is named."""

    events: list[str]
    subset: str = ""


def read_events(path: Path) -> dict[str, ReferenceEvents]:
    """Return video path -> events of a file in Tarsier's form, as DREAM-1K has them. Raises TrainError."""
    found = {}
    for _, one in _objects(path):
        if isinstance(one, LeftOut):
            continue
        extra = one.get("extra_info")
        events = one["events"] if "events" in one else (extra.get("events") if isinstance(extra, dict) else None)
        name = _only_video(one)
        if name and isinstance(events, list):
            kept = [text for text in events if isinstance(text, str) and text.strip()]
            found[name] = ReferenceEvents(kept, str(one.get("dataset") or ""))
    return found


def _only_video(found: Mapping[str, Any]) -> str:
    """Return the video that an object with events is about; empty where it names none, or several."""
    try:
        named = _names(found.get("video_file") or found.get("video"))
        if not named and isinstance(messages := found.get("messages"), list):
            contents = [one.get("content") for one in messages if isinstance(one, dict)]
            named = [name for content in contents for name in _content(content)[1]]
    except _Bad:
        return ""
    return named[0] if len(named) == 1 else ""


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any] | LeftOut]]:
    """Yield the number of each line or item, from 1, and the object."""
    try:
        if path.suffix == ".json":
            if path.stat().st_size > LARGEST_LIST:
                raise TrainError(f"{path} has over {LARGEST_LIST >> 30} GiB; write it as .jsonl, one object per line")
            listed = json.loads(path.read_text("utf-8"))
            if not isinstance(listed, list):
                raise TrainError(f"{path} holds a {type(listed).__name__}; a list of conversations was expected")
            for number, one in enumerate(listed, 1):
                yield number, one if isinstance(one, dict) else _not_json(path, number)
            return
        with path.open("rb") as file:
            yield from _lines(path, file)
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, TrainError):
            raise
        raise TrainError(f"{path} cannot be read ({first_line(error)}); name a .jsonl or .json file") from error


def _lines(path: Path, file: Any) -> Iterator[tuple[int, dict[str, Any] | LeftOut]]:
    number = 0
    while line := file.readline(LONGEST_LINE + 1):
        number += 1
        if len(line) > LONGEST_LINE:
            while line and not line.endswith(b"\n"):  # the rest of it, in pieces
                line = file.readline(LONGEST_LINE + 1)
            yield number, _not_json(path, number)
            continue
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            found = None
        yield number, found if isinstance(found, dict) else _not_json(path, number)


def _not_json(path: Path, number: int) -> LeftOut:
    return LeftOut(f"{path.name}:{number}", "line")


def _sample(key: str, found: Mapping[str, Any], root: Path) -> Sample:
    turns, named = _turns_of(found)
    if len(named) != 1:
        raise _Bad("files", f"{len(named)} videos")
    if not any(turn.role == "assistant" for turn in turns):
        raise _Bad("answer", "no turn of the assistant")
    if any(turn.role == "assistant" and not turn.text for turn in turns):
        raise _Bad("answer", "an empty answer")
    _refuse_order(turns)
    path = _inside(named[0], root)
    # by its place in the folder, wherever that lies: elsewhere the same videos are held out
    return Sample(key, VideoRef("file", str(path)), turns, group=path.relative_to(root).as_posix())


def _turns_of(found: Mapping[str, Any]) -> tuple[tuple[Turn, ...], list[str]]:
    """Return turns without tags, and the videos that are named."""
    if found.get("image") or found.get("images"):
        raise _Bad("picture", "")
    _refuse_part(found)
    named = _names(found.get("video", found.get("videos", found.get("video_file"))))
    said: Any = found.get("conversations", found.get("messages"))
    text = found.get("text")
    if said is None and isinstance(text, dict):
        said = [{"from": "human", "value": text.get("prompt")}, {"from": "gpt", "value": text.get("response") or ""}]
    if not isinstance(said, list) or not 0 < len(said) <= MOST_TURNS:
        raise _Bad("form", "no list of turns")
    turns, tags = [], 0
    for one in said:
        if not isinstance(one, dict):
            raise _Bad("form", "a turn is no object")
        role = SPEAKERS.get(str(one.get("from", one.get("role"))))
        if role is None:
            raise _Bad("form", "a turn of an unknown speaker")
        words, more = _content(one.get("value", one.get("content")))
        named += more
        if role == "user":
            tags += sum(words.count(tag) for tag in TAGS)
        for tag in TAGS:
            words = words.replace(tag, "")
        turns.append(Turn(role, words.strip()))
    if tags and tags != len(named):
        raise _Bad("files", f"{tags} tags and {len(named)} videos")
    return tuple(turns), named


def _content(value: Any) -> tuple[str, list[str]]:
    """Return the text of a turn, and the videos that it names."""
    if isinstance(value, str):
        return value, []
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(part, dict) for part in value):
        raise _Bad("form", "a turn without text")
    if any(part.get("type") == "image" for part in value):
        raise _Bad("picture", "")
    texts = [part.get("text") or part.get("reference") or part.get("text") for part in value
             if part.get("type") == "text"]  # fmt: skip
    if not all(isinstance(text, str) for text in texts):
        raise _Bad("form", "a turn without text")
    videos = [part for part in value if part.get("type") == "video"]
    for video in videos:
        _refuse_part(video)
    return "\n".join(map(str, texts)), [name for video in videos for name in _names(video.get("video"))]


def _names(value: Any) -> list[str]:
    if isinstance(value, dict):
        _refuse_part(value)
        value = value.get("video_file")
    names: Sequence[Any] = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(name, str) and name for name in names):
        raise _Bad("files", "a video is named by something other than a path")
    return list(names)


def _refuse_part(found: Mapping[str, Any]) -> None:
    """Refuse a video of which a part alone is meant: its answer would be learnt with the frames of the whole."""
    for name, whole in WHOLE.items():
        if found.get(name) is not None and found[name] not in whole:
            raise _Bad("part", f"{name} = {str(found[name])[:40]}")


def _refuse_order(turns: Sequence[Turn]) -> None:
    """Refuse all but: a system turn perhaps, then user and assistant by turns."""
    rest = turns[1:] if turns[0].role == "system" else turns
    for number, turn in enumerate(rest):
        if turn.role != ("user", "assistant")[number % 2]:
            raise _Bad("form", "user and assistant do not take turns")


def _inside(name: str, root: Path) -> Path:
    """Return the file, which need not exist; links are followed before they are judged."""
    if "\0" in name or "://" in name:
        raise _Bad("outside", name[:80])
    try:
        path = (root / name).resolve()
    except (OSError, RuntimeError) as error:
        raise _Bad("outside", name[:80]) from error
    if not path.is_relative_to(root):
        raise _Bad("outside", name[:80])
    return path
