"""Text of others as a question shows it: material to judge, which can neither end its turn nor leave its frame."""

from __future__ import annotations

import hashlib
import re

from reelwright.annotate.chat.answers import plain

LONGEST = 4_000  # characters that are shown
_SPECIAL = re.compile(r"<\|[^<>]{0,64}\|>|</?s>|\[/?INST\]|<\|?image\|?>|<\|?video\|?>", re.IGNORECASE)


def as_material(prompt: str) -> str:
    """Return a video's prompt as it is shown to a judge: one line, no control tokens of chat templates, bounded."""
    text, before = plain(prompt), ""
    while text != before:  # what a removal joins may be a token again
        before, text = text, _SPECIAL.sub("", text)
    return " ".join(text.split())[:LONGEST]


def boundary_of(prompt: str) -> str:
    """Return a line that the prompt cannot hold: its own hash is in it."""
    return f"-----{hashlib.sha256(prompt.encode()).hexdigest()[:16]}-----"
