"""Turns of calls in the processes of a reward: each process has its next call before it answers the last.

A process computes a few calls at once and holds one more, so that it need not wait for the way of an answer back and of
a call forth. What it has not begun shares neither the time limit nor the blame of what it computes.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field

AHEAD = 1
"""Calls that a process holds beyond those it computes."""


@dataclass(eq=False)
class Turn:
    """A call that a process holds. begun: done once the process may be computing it, at `began_s`."""

    begun: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    began_s: float = 0.0

    @property
    def is_begun(self) -> bool:
        """Whether the process may have computed it."""
        return self.begun.done()


class Line:
    """The calls of one process, in the order in which it takes them; it computes the first `at_once` of them."""

    def __init__(self, at_once: int) -> None:
        self.at_once, self.turns, self.is_over = at_once, list[Turn](), False

    def enter(self) -> Turn:
        """Add a call at the end."""
        turn = Turn()
        self.turns.append(turn)
        self._begin()
        return turn

    def leave(self, turn: Turn) -> None:
        """Take out a call that is answered or given up; the next one begins."""
        self.turns.remove(turn)
        self._begin()

    def end(self) -> None:
        """End the line with its process: what has not begun never will."""
        self.is_over = True

    def _begin(self) -> None:
        for turn in self.turns[: self.at_once]:
            if not (turn.is_begun or self.is_over):
                turn.began_s = time.monotonic()
                turn.begun.set_result(None)


@dataclass
class _Held:
    """Calls that a place holds. alone: its only one, behind which there may be none."""

    count: int = 0
    alone: bool = False


class Turns:
    """Deals the places of processes to calls, first come, first served."""

    def __init__(self, places: int, at_once: int) -> None:
        """at_once: calls that a process computes at a time."""
        self.at_once = at_once
        self._held = [_Held() for _ in range(places)]
        self._waiting: deque[tuple[asyncio.Future[int], bool]] = deque()

    async def take(self, *, alone: bool = False) -> int:
        """Wait for a place and return its number, to be given back. alone: with no other call in it."""
        given: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((given, alone))
        self._deal()
        return await given

    def give_back(self, number: int) -> None:
        """Give back a place that a call has left."""
        held = self._held[number]
        held.count, held.alone = held.count - 1, False
        self._deal()

    def _deal(self) -> None:
        while self._waiting:
            given, alone = self._waiting[0]
            fitting = [number for number, held in enumerate(self._held) if self._takes(held, alone=alone)]
            if not fitting:
                return  # one that must be alone is not overtaken, or it would wait for ever
            number = min(fitting, key=lambda one: self._held[one].count)
            held = self._held[number]
            held.count, held.alone = held.count + 1, alone
            self._waiting.popleft()
            given.set_result(number)

    def _takes(self, held: _Held, *, alone: bool) -> bool:
        if alone or held.alone:
            return not held.count
        # a call ahead could be computed sooner by another process, unless enough wait for all of them
        ahead = AHEAD if len(self._waiting) >= len(self._held) else 0
        return held.count < self.at_once + ahead
