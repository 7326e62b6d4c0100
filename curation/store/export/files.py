"""The common part of formats: the clips' files, lines of JSON, and the little TOML that trainers' settings need."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reelwright.curation.store.export.selection import Clip, Export

VIDEOS = "videos"


def save(clip: Clip, export: Export, subfolder: str = VIDEOS) -> str:
    """Write the clip's mp4; returns its path inside the export, with forward slashes."""
    folder = export.folder / subfolder
    folder.mkdir(exist_ok=True)
    (folder / f"{clip.name}.mp4").write_bytes(clip.mp4)
    return f"{subfolder}/{clip.name}.mp4"


@contextmanager
def json_list(path: Path) -> Iterator[Any]:
    """Yield a function that appends an item to a JSON list in `path`, one item per line."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        separator = "[\n"

        def add(item: Any) -> None:
            nonlocal separator
            file.write(separator + json.dumps(item, ensure_ascii=False))
            separator = ",\n"

        yield add
        file.write("[]\n" if separator == "[\n" else "\n]\n")


def dump_line(item: Any) -> str:
    """Return an item as a line of JSON."""
    return json.dumps(item, ensure_ascii=False) + "\n"


def one_line(text: str) -> str:
    """Return text without line breaks, for formats where a line is a caption."""
    return " ".join(text.split())


def write_text(path: Path, lines: Iterable[str]) -> None:
    """Write lines as UTF-8, each ended by a newline."""
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def toml_text(value: str) -> str:
    """Return a TOML basic string: JSON's escapes are TOML's, but for DEL, which TOML wants escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
