"""Answers in words: cleaned, and known by their language."""

from __future__ import annotations

import re
import unicodedata

from reelwright.annotate.chat.base import Answer

LONGEST = 8_000  # characters of an answer; a dense caption has about 1,000
_THOUGHT = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)  # what reasoning models say before they answer
_FENCE = re.compile(r"\A```[^\n`]*\n(.*?)\n?```\Z", re.DOTALL)
_LABEL = re.compile(
    r"\A[*#\s]*(?:caption|description|summary|translation|译文|翻译|摘要)[*\s]*[:：][*\s]*", re.IGNORECASE
)
_QUOTES = {'"': '"', "“": "”", "「": "」", "'": "'"}
_ENDS = re.compile(r".*[.!?。！？][\"'”’」)）]?(?=\s|\Z|[\u4e00-\u9fff])", re.DOTALL)
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_KANA_HANGUL = re.compile(r"[\u3040-\u30ff\u1100-\u11ff\uac00-\ud7af]")


def clean(answer: Answer) -> str:
    """Return the answer as one line of plain text, without thoughts, fence, label or quotation marks around it.

    An answer that was cut off loses its unfinished last sentence.

    Raises:
        ValueError: nothing is left, or more than a caption can be.
    """
    text = _THOUGHT.sub("", answer.text[: 4 * LONGEST]).strip()
    fenced = _FENCE.match(text)
    text = plain(_LABEL.sub("", fenced.group(1) if fenced else text))
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and text[0] not in text[1:-1] and text[-1] not in text[1:-1]:
        text = text[1:-1].strip()
    if answer.cut:
        whole = _ENDS.match(text)
        if not whole:
            raise ValueError("the answer was cut off in its first sentence")
        text = whole.group(0)
    if not any(c.isalnum() for c in text):
        raise ValueError("the answer is empty")
    if len(text) > LONGEST:
        raise ValueError(f"the answer has {len(text)} characters, more than {LONGEST}")
    return text


def plain(text: str) -> str:
    """Return one line: control, format-override and unpaired surrogate characters out, white space collapsed."""
    kept = (" " if c.isspace() else c for c in text if c.isspace() or unicodedata.category(c) not in ("Cc", "Cs", "Co"))
    return " ".join("".join(c for c in kept if c not in _OVERRIDES).split())


_OVERRIDES = frozenset("\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")
"""Invisible characters that reverse or hide text."""


def language_of(text: str) -> str:
    """Return "zh", "en" or "und" (undetermined), by script alone: letters without accents are taken for English."""
    letters = [c for c in text if c.isalpha()]
    if not letters or _KANA_HANGUL.search(text):
        return "und"
    if is_written_in(text, "zh"):
        return "zh"
    return "en" if sum(c.isascii() for c in letters) >= 0.97 * len(letters) else "und"


def is_written_in(text: str, language: str) -> bool:
    """Return whether the script is that of the language ("zh" or "en"), names and quotations in others aside."""
    letters = [c for c in text if c.isalpha()]
    if language == "zh":
        return len(_HAN.findall(text)) >= 0.3 * max(1, len(letters)) and not _KANA_HANGUL.search(text)
    return sum("LATIN" in unicodedata.name(c, "") for c in letters) >= 0.7 * max(1, len(letters))
