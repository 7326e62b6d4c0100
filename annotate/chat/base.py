"""The contract of a chat: questions in, answers out, whichever backend gives them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reelwright.annotate.chat.budget import Budget

EXCERPT = 300  # characters of an answer, a message or an error that are repeated


@dataclass(frozen=True, eq=False)
class Question:
    """A question, about frames or about the text alone.

    Args:
        text: the question.
        system: the system prompt; "" for none.
        frames: uint8 [T, H, W, 3] RGB in order of time, or each as a JPEG.
        fps: frames per second of `frames`; 0: not known.
        schema: JSON schema that the answer should follow. It steers a server; the answer must be checked all the same
            (see `ask_json`).
        top_logprobs: likeliest tokens to return at each place of the answer, where the backend can; 0: none.
    """

    text: str
    system: str = ""
    frames: np.ndarray | Sequence[bytes] | None = None
    fps: float = 0.0
    schema: Mapping[str, Any] | None = None
    top_logprobs: int = 0


@dataclass(frozen=True)
class Token:
    """A token of an answer; likeliest: log-probability by text, of tokens that could stand in its place."""

    text: str
    likeliest: Mapping[str, float]


@dataclass(frozen=True)
class Answer:
    """An answer; cut: it reached `max_tokens` before its end; tokens: where the question asked for them."""

    text: str
    input_tokens: int = 0
    output_tokens: int = 0
    cut: bool = False
    tokens: tuple[Token, ...] = ()


class ChatError(Exception):
    """A question failed for good, after its retries."""


class Chat(ABC):
    """An open connection to a model, or a loaded one. Safe for several threads, which share its window."""

    budget: Budget

    @property
    def waiting_reason(self) -> str:
        """Reason why it waits, such as a server that is away; empty while it does not."""
        return ""

    @abstractmethod
    def ask(self, questions: Sequence[Question]) -> list[Answer | Exception]:
        """Return an answer to each question, in their order; in place of one that failed, its exception.

        ChatError: for good. `annotate.contract.Postponed`: a later run should ask again (the server is away, a limit on
        cost or time is reached).
        """

    def ask_each(self, questions: Sequence[Question]) -> Iterator[tuple[int, Answer | Exception]]:
        """Yield the place of each question and what `ask` returns for it, as the answers come."""
        yield from enumerate(self.ask(questions))

    def close(self) -> None:
        """Release its resources; asking afterwards is an error."""
        return None


def excerpt(text: str) -> str:
    """Return the text on one line, at most EXCERPT characters of it."""
    text = " ".join(text[: 4 * EXCERPT].split())
    return text if len(text) <= EXCERPT else f"{text[:EXCERPT]}…"
