"""Answers in words: cleaned, checked, and asked again where they do not pass. For answers in JSON see `ask_json`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace

from reelwright.annotate.chat.model import Answer, Chat, ChatError, Question

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


def ask_text(
    chat: Chat, questions: Sequence[Question], checks: Sequence[Callable[[Answer], str]], attempts: int
) -> list[str | Exception]:
    """A text for each question, in their order, or the exception that the question ended with.

    checks: one a question; returns the text to keep, or raises ValueError, and then the question is asked again with
    the complaint. After `attempts` rounds it is a ChatError.
    """
    found: list[str | Exception] = [ChatError("not asked")] * len(questions)
    left = dict(enumerate(questions))
    for attempt in range(1, attempts + 1):
        answers = chat.ask(list(left.values()))
        asked, left = left, {}
        for i, answer in zip(asked, answers, strict=True):
            try:
                found[i] = answer if isinstance(answer, Exception) else checks[i](answer)
            except ValueError as error:
                found[i] = ChatError(f"after {attempt} attempts still no valid answer: {error}")
                complaint = f"{questions[i].text}\n\nYour last answer was not valid: {error}. Answer anew."
                left[i] = replace(questions[i], text=complaint)
        if not left:
            break
    return found


def clean(answer: Answer) -> str:
    """The answer as one line of plain text, without thoughts, fence, label or quotation marks around it.

    An answer that was cut off loses its unfinished last sentence. Raises ValueError where nothing is left, or more than
    a caption can be.
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
    """One line: control, format-override and unpaired surrogate characters out, white space collapsed."""
    kept = (" " if c.isspace() else c for c in text if c.isspace() or unicodedata.category(c) not in ("Cc", "Cs", "Co"))
    return " ".join("".join(c for c in kept if c not in _OVERRIDES).split())


_OVERRIDES = frozenset("\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")
"""Invisible characters that reverse or hide text."""


def language_of(text: str) -> str:
    """"zh", "en" or "und" (undetermined), by script alone: letters without accents are taken for English."""
    letters = [c for c in text if c.isalpha()]
    if not letters or _KANA_HANGUL.search(text):
        return "und"
    if is_written_in(text, "zh"):
        return "zh"
    return "en" if sum(c.isascii() for c in letters) >= 0.97 * len(letters) else "und"


def is_written_in(text: str, language: str) -> bool:
    """Whether the script is that of the language ("zh" or "en"), names and quotations in others aside."""
    letters = [c for c in text if c.isalpha()]
    if language == "zh":
        return len(_HAN.findall(text)) >= 0.3 * max(1, len(letters)) and not _KANA_HANGUL.search(text)
    return sum("LATIN" in unicodedata.name(c, "") for c in letters) >= 0.7 * max(1, len(letters))
