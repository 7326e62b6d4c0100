"""The window of requests in flight: as asked for, and smaller while the server is overloaded."""

from __future__ import annotations

import asyncio
import time


class Window:
    """An asynchronous context manager that lets `most` requests in at once.

    An overload halves the number, and each window of answers adds one: additive increase, multiplicative decrease, as
    in TCP (RFC 5681). A request sent before the last decrease says nothing new, so it decreases nothing.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.size = float(most)
        self.taken = 0
        self._changed = asyncio.Condition()
        self._decreased_at = float("-inf")

    def answered(self) -> None:
        """Widen the window a little, up to `most`."""
        self.size = min(self.most, self.size + 1 / self.size)

    def overloaded(self, sent_at: float) -> None:
        """Halve the window; sent_at: of the refused request, on time.monotonic()."""
        if sent_at > self._decreased_at:
            self.size = max(1.0, self.size / 2)
            self._decreased_at = time.monotonic()

    async def __aenter__(self) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self.taken < int(self.size))
            self.taken += 1

    async def __aexit__(self, *_: object) -> None:
        async with self._changed:
            self.taken -= 1
            self._changed.notify(max(1, int(self.size) - self.taken))
