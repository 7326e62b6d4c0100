"""Prompts of pictures: for each one that says all, one that says little, one that says something else, and none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reelwright.evaluation.errors import EvaluationError
from reelwright.evaluation.suites.suite import Prompt

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
CONCISE_WORDS = 8
PLAIN = {
    "detailed": "The scene of the picture comes to life. Everything keeps its look, its size and its place; what can "
    "move does so by its own nature, people and animals, leaves, cloth and water alike, and the light stays as it is. "
    "The camera moves slowly nearer and does not shake.",
    "concise": "The picture comes to life.",
    "contradictory": "Heavy snow falls at night on an empty street, and a marching band in red passes from left to "
    "right.",
}
"""Prompts of a picture of which nothing is known."""


@dataclass(frozen=True)
class Picture:
    """A picture that videos begin with, and what is to happen in it, if somebody has written that."""

    path: Path
    caption: str = ""
    category: str = "pictures"


def find_pictures(places: Sequence[Path]) -> list[Picture]:
    """Return the pictures at these places, in order; NAME.txt beside a picture holds its caption.

    Raises:
        EvaluationError: a place has none.
    """
    found: list[Picture] = []
    for place in places:
        files = sorted(p for p in place.iterdir() if p.suffix.lower() in SUFFIXES) if place.is_dir() else [place]
        if not files or not all(file.is_file() and file.suffix.lower() in SUFFIXES for file in files):
            raise EvaluationError(f"{place} has no picture ({', '.join(SUFFIXES)})")
        for file in files:
            beside = file.with_suffix(".txt")
            found.append(Picture(file, beside.read_text(encoding="utf-8").strip() if beside.is_file() else ""))
    return found


def prompts_of(pictures: Sequence[Picture]) -> list[Prompt]:
    """Return four prompts per picture: detailed, concise, contradictory and empty.

    The contradictory one is another picture's caption, half the list away, where there is one that differs.
    """
    found = []
    for i, picture in enumerate(pictures):
        texts = {
            "detailed": picture.caption or PLAIN["detailed"],
            "concise": _first_words(picture.caption) or PLAIN["concise"],
            "contradictory": _other(pictures, i) or PLAIN["contradictory"],
            "empty": "",
        }
        found += [
            Prompt(f"picture-{i + 1:03d}-{kind}", text, picture.category, kind, "i2v", picture.path)
            for kind, text in texts.items()
        ]
    return found


def _first_words(caption: str) -> str:
    """Return a caption's first clause, at most CONCISE_WORDS words of it."""
    clause = re.split(r"[.;:,!?]\s", f"{caption} ", maxsplit=1)[0]
    return " ".join(clause.split()[:CONCISE_WORDS])


def _other(pictures: Sequence[Picture], index: int) -> str:
    count = len(pictures)
    half = [pictures[(index + count // 2 + k) % count].caption for k in range(count)]
    return next((caption for caption in half if caption and caption != pictures[index].caption), "")
