"""Captions of one clip as items of a list."""

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
    """Return the caption as one plain, bounded line; no item where there is no text."""
    line = plain(text)[:LONGEST] if text else ""
    return [Item(line, language_of(line), kind, model)] if line else []


def text_hash(text: str) -> str:
    """Return 16 hex digits of a text, which separate its rewrites from rewrites of an earlier text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
