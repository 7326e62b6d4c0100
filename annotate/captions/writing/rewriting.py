"""Translations and summaries of captions by a chat model: the questions, and the checks of the answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from reelwright.annotate.chat.answers import clean, is_written_in
from reelwright.annotate.chat.base import Answer, Question
from reelwright.annotate.chat.prompts import Prompt

NAMES = {"en": "English", "zh": "Chinese"}
UNITS = {"en": "words", "zh": "Chinese characters"}
SHORT = {"en": 25, "zh": 40}  # units of a summary; a caption that is no longer needs none


@dataclass(frozen=True)
class Rewriting:
    """A question to a chat model, and the check that its answer has to pass (ValueError: ask again)."""

    question: Question
    check: Callable[[Answer], str]
    kind: str
    language: str


def translation(text: str, language: str, prompt: Prompt) -> Rewriting:
    """Return the question for a translation between English and Chinese.

    An English text has 2 to 5 times the characters of its Chinese translation.
    """
    target = "zh" if language == "en" else "en"
    least, most = (0.15, 1.0) if target == "zh" else (0.8, 10.0)

    def check(answer: Answer) -> str:
        found = _checked(answer, target, text)
        if not least * len(text) <= len(found) <= most * len(text) + 20:
            raise ValueError(f"the translation has {len(found)} characters and the text {len(text)}")
        return found

    asked = prompt.filled(source=NAMES[language], target=NAMES[target], text=text)
    return Rewriting(Question(asked, prompt.system), check, "translation", target)


def summary(text: str, language: str, prompt: Prompt) -> Rewriting:
    """Return the question for one sentence in the same language.

    Up to twice the length asked for passes, because models count badly.
    """
    short = SHORT[language]
    unit = UNITS[language]

    def check(answer: Answer) -> str:
        found = _checked(answer, language, text)
        if size(found, language) > 2 * short or len(found) >= len(text):
            raise ValueError(f"the summary has {size(found, language)} {unit}; write at most {short}")
        return found

    asked = prompt.filled(language=NAMES[language], limit=f"{short} {unit}", text=text)
    return Rewriting(Question(asked, prompt.system), check, "summary", language)


def size(text: str, language: str) -> int:
    """Return the length in the language's UNITS."""
    return len(text.split()) if language == "en" else len(text)


def _checked(answer: Answer, language: str, source: str) -> str:
    if answer.cut:
        raise ValueError("the answer was cut off before its end; be shorter")
    text = clean(answer)
    if text.casefold() == source.casefold():
        raise ValueError("the answer repeats the text")
    if not is_written_in(text, language):
        raise ValueError(f"the answer is not in {NAMES[language]}")
    return text
