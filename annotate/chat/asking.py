"""Asking until an answer is valid: as text or as a JSON object, asked again with the complaint, never guessed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from reelwright.annotate.chat.base import Answer, Chat, ChatError, Question, excerpt
from reelwright.annotate.chat.structured import parse_object

T = TypeVar("T")


def ask_text(
    chat: Chat, questions: Sequence[Question], checks: Sequence[Callable[[Answer], str]], attempts: int
) -> list[str | Exception]:
    """Return a text for each question, in their order, or the exception that the question ended with.

    Args:
        chat: answers.
        questions: asked together.
        checks: one per question; returns the text to keep, or raises ValueError, and then the question is asked again
            with the complaint.
        attempts: rounds; after them a question is a ChatError.
    """

    def again(question: Question, answer: Answer, complaint: str) -> str:
        return f"{question.text}\n\nYour last answer was not valid: {complaint}. Answer anew."

    return ask_until_valid(chat, questions, checks, again, attempts)


def ask_json(
    chat: Chat, questions: Sequence[Question], check: Callable[[dict[str, Any]], Any], attempts: int = 3
) -> list[dict[str, Any] | Exception]:
    """Return a JSON object for each question, in their order, or the exception that the question ended with.

    Args:
        chat: answers.
        questions: asked together.
        check: raises ValueError on an object that is outside the schema or vocabulary. Wrong answers are asked again,
            all of a round together, each with the complaint.
        attempts: rounds; after them a question is a ChatError.
    """
    found = dict(each_json(chat, questions, check, attempts))
    return [found[i] for i in range(len(questions))]


def each_json(
    chat: Chat, questions: Sequence[Question], check: Callable[[dict[str, Any]], Any], attempts: int
) -> Iterator[tuple[int, dict[str, Any] | Exception]]:
    """Yield the place of each question and what `ask_json` returns for it, as soon as that is known."""

    def accept(answer: Answer) -> dict[str, Any]:
        try:
            value = parse_object(answer.text)
            check(value)
        except ValueError as error:
            raise ValueError(excerpt(str(error))) from None
        return value

    return valid_as_they_come(chat, questions, [accept] * len(questions), again_as_json, attempts)


def again_as_json(question: Question, answer: Answer, complaint: str) -> str:
    """Return the text that asks for a JSON object once more, with the complaint about the last answer."""
    return (
        f"{question.text}\n\nYour last answer was not valid: {complaint}\nThe answer was: {excerpt(answer.text)}\n"
        "Answer anew with one JSON object only, without any other words."
    )


def ask_until_valid(
    chat: Chat,
    questions: Sequence[Question],
    accept: Sequence[Callable[[Answer], T]],
    again: Callable[[Question, Answer, str], str],
    attempts: int,
) -> list[T | Exception]:
    """Return the value of each question's answer, in their order, or the exception that the question ended with.

    Args:
        chat: answers.
        questions: asked together.
        accept: one per question; returns an answer's value, or raises ValueError, and the question is asked again.
        again: the text of the next round, from question, answer and complaint.
        attempts: rounds; after them a question is a ChatError.
    """
    found = dict(valid_as_they_come(chat, questions, accept, again, attempts))
    return [found[i] for i in range(len(questions))]


def valid_as_they_come(
    chat: Chat,
    questions: Sequence[Question],
    accept: Sequence[Callable[[Answer], T]],
    again: Callable[[Question, Answer, str], str],
    attempts: int,
) -> Iterator[tuple[int, T | Exception]]:
    """Yield the place of each question and what `ask_until_valid` returns for it, as soon as that is known."""
    left = dict(enumerate(questions))
    for attempt in range(1, attempts + 1):
        places, asked, left = list(left), list(left.values()), {}
        for at, answer in chat.ask_each(asked):
            i = places[at]
            if isinstance(answer, Exception):
                yield i, answer
                continue
            try:
                value = accept[i](answer)
            except ValueError as error:
                if attempt == attempts:
                    yield i, ChatError(f"after {attempt} attempts still no valid answer: {error}")
                left[i] = replace(questions[i], text=again(questions[i], answer, str(error)))
            else:
                yield i, value
        if not left:
            break
