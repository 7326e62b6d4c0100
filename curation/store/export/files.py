"""What formats have in common: the clips' files, lines of JSON, and the little TOML that trainers' settings need."""

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
    """A function that appends an item to a JSON list in `path`, an item a line."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        separator = "[\n"

        def add(item: Any) -> None:
            nonlocal separator
            file.write(separator + json.dumps(item, ensure_ascii=False))
            separator = ",\n"

        yield add
        file.write("[]\n" if separator == "[\n" else "\n]\n")


def dump_line(item: Any) -> str:
    """A line of JSON."""
    return json.dumps(item, ensure_ascii=False) + "\n"


def one_line(text: str) -> str:
    """Text without line breaks, where a line is a caption."""
    return " ".join(text.split())


def write_text(path: Path, lines: Iterable[str]) -> None:
    """Lines as UTF-8, each ended by a newline."""
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def toml_text(value: str) -> str:
    """A TOML basic string: JSON's escapes are TOML's, but for DEL, which TOML wants escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
