"""Captions of one clip as items of a list: those that it was given, which others are made of."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from reelwright.annotate.chat.answers import LONGEST, language_of, plain


@dataclass(frozen=True)
class Item:
    """One caption; the fields of the struct in column `captions`."""

    text: str
    language: str
    kind: str
    model: str | None
    parents: tuple[int, ...] = ()


def given(kind: str, text: str | None, model: str | None = None) -> list[Item]:
    """The caption as one plain, bounded line; nothing where there is no text."""
    line = plain(text)[:LONGEST] if text else ""
    return [Item(line, language_of(line), kind, model)] if line else []


def text_hash(text: str) -> str:
    """16 hex digits, by which what was made of a text is told from what was made of an earlier one."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
