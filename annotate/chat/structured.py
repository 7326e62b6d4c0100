"""Answers as JSON objects, parsed strictly: what does not parse or fit is asked again, and never guessed."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NoReturn

from reelwright.annotate.chat.model import Answer, Chat, ChatError, Question

LONGEST = 100_000  # characters of an answer that are looked at
SHOWN = 300  # characters of an answer or complaint that are repeated
_FENCED = re.compile(r"\A```[ \t]*(?:json|JSON)?[ \t]*\r?\n(.*?)\r?\n?```\Z", re.DOTALL)


def ask_json(
    chat: Chat, questions: Sequence[Question], check: Callable[[dict[str, Any]], Any], attempts: int = 3
) -> list[dict[str, Any] | Exception]:
    """A JSON object for each question, in their order, or the exception that the question ended with.

    check: raises ValueError on an object that is outside the schema or vocabulary. Wrong answers are asked again, all
    of a round together, each with the complaint; after `attempts` rounds they are ChatErrors.
    """
    found: list[dict[str, Any] | Exception] = [ChatError("not asked")] * len(questions)
    open_ = dict(enumerate(questions))
    for attempt in range(1, attempts + 1):
        answers = chat.ask(list(open_.values()))
        asked, open_ = open_, {}
        for (i, question), answer in zip(asked.items(), answers, strict=True):
            if isinstance(answer, Exception):
                found[i] = answer
                continue
            try:
                found[i] = _checked(answer, check)
            except ValueError as error:
                complaint = _short(str(error))
                found[i] = ChatError(f"after {attempt} attempts still no valid answer: {complaint}")
                open_[i] = replace(question, text=_again(questions[i].text, answer.text, complaint))
        if not open_:
            break
    return found


def parse_object(text: str) -> dict[str, Any]:
    """The JSON object that the text is, whole or in one fenced block; raises ValueError on anything else: words around
    it, a key twice, NaN."""
    text = text.strip()
    if len(text) > LONGEST:
        raise ValueError(f"the answer has {len(text)} characters")
    fenced = _FENCED.match(text)
    try:
        value = json.loads(
            fenced.group(1) if fenced else text,
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except RecursionError:
        raise ValueError("the answer is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"the answer is not one JSON object ({error})") from None
    if not isinstance(value, dict):
        raise ValueError(f"the answer is a JSON {type(value).__name__}, not an object")
    return value


def _checked(answer: Answer, check: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    value = parse_object(answer.text)
    check(value)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the answer has a key twice: {next(k for k in keys if keys.count(k) > 1)!r}")
    return value


def _finite(number: str) -> float:
    value = float(number)
    return value if math.isfinite(value) else _refuse_constant(number)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"the answer holds {name[:20]}, which is no finite number")


def _again(question: str, answer: str, complaint: str) -> str:
    return (
        f"{question}\n\nYour last answer was not valid: {complaint}\nThe answer was: {_short(answer)}\n"
        "Answer anew with one JSON object only, without any other words."
    )


def _short(text: str) -> str:
    text = " ".join(text[: 4 * SHOWN].split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
