"""Find the code blocks of README and docs, and the commands of `reel` in them.

A block that cannot run on any machine is marked by a comment in the line before it, which a reader of the page does not
see: `<!-- needs: gpu -->`, or hub, models, cluster, make, package.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT

NEEDS = ("gpu", "hub", "models", "cluster", "make", "package", "terminal")
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
SEPARATORS = {";", "&&", "||", "|", "&", "do", "then", "--", "\n"}


@dataclass(frozen=True)
class Block:
    """A fenced block. line: of its first fence. needs: what the mark before it names, or nothing."""

    document: Path
    line: int
    language: str
    text: str
    needs: str

    @property
    def name(self) -> str:
        return f"{self.document.stem}:{self.line}"


def blocks(*languages: str, document: Path | None = None) -> list[Block]:
    """Blocks of some languages, in order of documents and lines."""
    found = [block for one in ([document] if document else DOCUMENTS) for block in _blocks(one)]
    return [block for block in found if block.language in languages]


def _blocks(document: Path) -> Iterator[Block]:
    lines = document.read_text(encoding="utf-8").splitlines()
    number = 0
    while number < len(lines):
        fence = re.match(r"(\s*)```(\w*)\s*$", lines[number])
        if not fence:
            number += 1
            continue
        end = next(i for i in range(number + 1, len(lines)) if lines[i].strip() == "```")
        text = "\n".join(line.removeprefix(fence[1]) for line in lines[number + 1 : end])
        mark = re.fullmatch(r"\s*<!-- needs: (\w+) -->\s*", lines[number - 1]) if number else None
        yield Block(document, number + 1, fence[2], text, mark[1] if mark else "")
        number = end + 1


def reel_commands(text: str) -> list[list[str]]:
    """Arguments of each `reel` in a block of shell."""
    found: list[list[str]] = []
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.shlex(line, posix=True, punctuation_chars=";|&")
        words.whitespace_split, words.commenters = True, "#"
        command: list[str] | None = None
        for word in words:
            if word in SEPARATORS:
                command = None
            elif word == "reel" and command is None:
                command = []
                found.append(command)
            elif command is not None:
                command.append(word)
            elif word not in ("ray", "export"):
                command = None
    return found
