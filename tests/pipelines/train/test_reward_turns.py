"""A process holds its next call, and what it has not begun has no part in its limits and its faults."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from reelwright.pipelines.train.reward_turns import Line, Turns


def run(what: Coroutine[Any, Any, None]) -> None:
    asyncio.run(what)


async def dealt(turns: Turns, count: int, *, alone: bool = False) -> "list[asyncio.Task[int]]":
    """Ask for places, one after the other; return the askers, some of whom wait."""
    asked = [asyncio.create_task(turns.take(alone=alone)) for _ in range(count)]
    for _ in range(3):  # rounds of the event loop: all that can be dealt is dealt then
        await asyncio.sleep(0)
    return asked


def places(asked: "Sequence[asyncio.Task[int]]") -> list[int | None]:
    return [one.result() if one.done() else None for one in asked]


def test_one_process_holds_a_call_ahead() -> None:
    async def check() -> None:
        turns = Turns(1, 2)
        asked = await dealt(turns, 5)
        assert places(asked) == [0, 0, 0, None, None]
        turns.give_back(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert places(asked) == [0, 0, 0, 0, None]
        for one in asked:
            one.cancel()

    run(check())


def test_calls_are_held_ahead_only_while_enough_wait_for_every_process() -> None:
    async def check() -> None:
        few = Turns(3, 1)
        assert places(await dealt(few, 3)) == [0, 1, 2]
        waiting = await dealt(few, 2)
        assert places(waiting) == [None, None]  # the process that is free first computes them
        more = await dealt(few, 1)
        assert places([*waiting, *more]) == [0, None, None]
        for one in [*waiting, *more]:
            one.cancel()

    run(check())


def test_a_call_that_must_be_alone_waits_for_an_empty_process_and_has_none_behind_it() -> None:
    async def check() -> None:
        turns = Turns(2, 1)
        before = await dealt(turns, 2)
        (alone,) = await dealt(turns, 1, alone=True)
        after = await dealt(turns, 2)
        assert places([*before, alone, *after]) == [0, 1, None, None, None]
        turns.give_back(1)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert places([alone, *after]) == [1, 0, None]  # one ahead in the other process, none behind the lone one
        turns.give_back(1)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert places(after) == [0, 1]

    run(check())


def test_a_call_begins_when_those_before_it_are_answered() -> None:
    async def check() -> None:
        line = Line(2)
        first, second, third, fourth = (line.enter() for _ in range(4))
        assert [one.is_begun for one in (first, second, third, fourth)] == [True, True, False, False]
        line.leave(second)
        assert (third.is_begun, fourth.is_begun) == (True, False)
        assert third.began_s >= first.began_s > 0

    run(check())


def test_what_a_lost_process_had_not_begun_never_begins() -> None:
    async def check() -> None:
        line = Line(1)
        running, behind = line.enter(), line.enter()
        line.end()
        line.leave(running)
        assert not behind.is_begun
        line.leave(behind)

    run(check())
