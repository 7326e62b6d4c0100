"""Prompts: one text file each, with its version in the first line.

    version: 1
    system: optional, one line

    The text; $names in it are filled in by the annotator that asks.

A user's own prompt is a file of the same form, named by its path.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from string import Template

from reelwright.annotate.errors import AnnotatorError

_HERE = Path(__file__).parent
LONGEST = 20_000  # characters of a prompt's file


@dataclass(frozen=True)
class Prompt:
    """A prompt; fingerprint: name, version and hash of the file, for `Annotator.models`."""

    version: int
    system: str
    text: str
    fingerprint: str

    def filled(self, **values: object) -> str:
        """Return the text with its $names filled in; other names stay (a price in a user's prompt, say)."""
        return Template(self.text).safe_substitute(values)


def load_prompt(name: str) -> Prompt:
    """Return a built-in prompt by name, or a file by path (with a slash, or ending in .txt or .md).

    Raises:
        AnnotatorError: there is none, or it is not of the form above.
    """
    is_path = "/" in name or name.endswith((".txt", ".md"))
    path = Path(name).expanduser() if is_path else _HERE / f"{name}.txt"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in _HERE.glob("*.txt")))
        raise AnnotatorError(f"prompt {name!r} is not a file; built-in prompts: {known}")
    status = path.stat()
    return _read(path, f"{name}", status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _read(path: Path, name: str, size: int, mtime_ns: int) -> Prompt:
    if size > LONGEST:
        raise AnnotatorError(f"prompt {name!r} has {size} bytes; at most {LONGEST} are read")
    content = path.read_text(encoding="utf-8")
    head, _, text = content.replace("\r\n", "\n").partition("\n\n")
    header = dict(line.split(":", 1) for line in head.splitlines() if ":" in line)
    version = header.get("version", "").strip()
    if not version.isdigit() or set(header) - {"version", "system"} or not text.strip():
        raise AnnotatorError(f"prompt {name!r} must begin with the line 'version: 1', an empty line, and then its text")
    digest = hashlib.sha256(content.encode()).hexdigest()[:12]
    shown = f"prompt:{path.stem}@{version}:{digest}"  # not the whole path: the same file elsewhere is the same prompt
    return Prompt(int(version), header.get("system", "").strip(), text.strip(), shown)
