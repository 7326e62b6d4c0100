"""When to ask a server again, how long to wait before, and what may be spent."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from reelwright.annotate.chat.model import Answer, ChatModel

FIRST_S, LONGEST_S = 0.5, 30.0  # waits between attempts: doubled each time, up to
LONGEST_ASKED_S = 120.0  # what a server's Retry-After may ask for at most
AGAIN = frozenset({408, 409, 425, 429})  # and all from 500
OVERLOADED = frozenset({429, 502, 503, 504, 529})  # says nothing about the question


class Again(Exception):
    """An attempt failed in a way that another may not. after_s: what the server asks to wait.

    unreached: no connection came about. overloaded: the question is not to blame.
    """

    def __init__(
        self, why: str, *, after_s: float | None = None, unreached: bool = False, overloaded: bool = False
    ) -> None:
        super().__init__(why)
        self.after_s, self.unreached, self.overloaded = after_s, unreached, overloaded


def wait_s(attempt: int, after_s: float | None = None, draw: float | None = None) -> float:
    """Seconds before the next attempt; attempt: of those that failed so far, 1 the first.

    Drawn between half and all of the doubling wait, so that questions that failed together do not come back together.
    A server's Retry-After is a lower bound.
    """
    draw = random.random() if draw is None else draw  # noqa: S311
    wait = min(LONGEST_S, FIRST_S * 2 ** (attempt - 1)) * (0.5 + draw / 2)
    return max(wait, min(after_s, LONGEST_ASKED_S) + draw * FIRST_S) if after_s else wait


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After header, which holds seconds or a date (RFC 9110, 10.2.3); None without a valid one."""
    value = headers.get("Retry-After", "")[:64].strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            at = parsedate_to_datetime(value)
        except ValueError:
            return None
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        seconds = (at - datetime.now(UTC)).total_seconds()
    return seconds if 0 <= seconds < float("inf") else None


class Budget:
    """What has been spent, against `max_cost_usd` and `max_time_s`.

    Checked before each request: what is in flight when the limit is reached still counts on top.
    """

    def __init__(self, chat: ChatModel) -> None:
        self.chat = chat
        self.input_tokens = self.output_tokens = 0
        self._uncounted = False
        self._lock, self._taken = threading.Lock(), (0, 0)
        self._started: float | None = None

    @property
    def cost_usd(self) -> float:
        return self.chat.cost_usd(self.input_tokens, self.output_tokens)

    def add(self, answer: Answer) -> None:
        """Count an answer, also one that is of no use."""
        with self._lock:
            self.input_tokens += answer.input_tokens
            self.output_tokens += answer.output_tokens
        self._uncounted |= not answer.input_tokens

    def take(self) -> dict[str, float]:
        """{"input_tokens", "output_tokens", "usd"} since it was last called."""
        with self._lock:
            now = self.input_tokens, self.output_tokens
            tokens = now[0] - self._taken[0], now[1] - self._taken[1]
            self._taken = now
        return {"input_tokens": tokens[0], "output_tokens": tokens[1], "usd": self.chat.cost_usd(*tokens)}

    def spent(self) -> str:
        """Which limit is reached; empty where none is. Time counts from the first call."""
        chat, now = self.chat, time.monotonic()
        self._started = now if self._started is None else self._started
        if chat.max_cost_usd and self._uncounted:
            return "the server reports no tokens, so the limit max_cost_usd cannot be kept"
        if chat.max_cost_usd and self.cost_usd >= chat.max_cost_usd:
            return f"the cost limit is reached: {self.cost_usd:.2f} of {chat.max_cost_usd:g} USD"
        if chat.max_time_s and now - self._started >= chat.max_time_s:
            return f"the time limit is reached: {chat.max_time_s:g} s"
        return ""
