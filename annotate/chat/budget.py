"""The cost of questions so far, against the limits of a chat model."""

from __future__ import annotations

import threading
import time

from reelwright.annotate.chat.model import ChatModel


class Budget:
    """Count costs and time against `max_cost_usd` and `max_time_s`.

    Checked before each request: requests in flight when the limit is reached still count on top.
    """

    def __init__(self, chat: ChatModel) -> None:
        self.chat = chat
        self.input_tokens = self.output_tokens = 0
        self._uncounted = False
        self._lock = threading.Lock()
        self._taken = (0, 0)
        self._started: float | None = None

    @property
    def cost_usd(self) -> float:
        """The price of all tokens so far."""
        return self.chat.cost_usd(self.input_tokens, self.output_tokens)

    def add(self, input_tokens: int, output_tokens: int) -> None:
        """Count the tokens of an answer, also of one that is of no use."""
        with self._lock:
            self.input_tokens += input_tokens
            self.output_tokens += output_tokens
        self._uncounted |= not input_tokens

    def take(self) -> dict[str, float]:
        """Return {"input_tokens", "output_tokens", "usd"} since the last call."""
        with self._lock:
            now = self.input_tokens, self.output_tokens
            tokens = now[0] - self._taken[0], now[1] - self._taken[1]
            self._taken = now
        return {"input_tokens": tokens[0], "output_tokens": tokens[1], "usd": self.chat.cost_usd(*tokens)}

    def spent(self) -> str:
        """Return which limit is reached; empty where none is. Time counts from the first call."""
        chat = self.chat
        now = time.monotonic()
        self._started = now if self._started is None else self._started
        if chat.max_cost_usd and self._uncounted:
            return "the server reports no tokens, so the limit max_cost_usd cannot be kept"
        if chat.max_cost_usd and self.cost_usd >= chat.max_cost_usd:
            return f"the cost limit is reached: {self.cost_usd:.2f} of {chat.max_cost_usd:g} USD"
        if chat.max_time_s and now - self._started >= chat.max_time_s:
            return f"the time limit is reached: {chat.max_time_s:g} s"
        return ""
