"""One event loop in a thread of its own, for all of a process's requests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterable, Iterator
from concurrent.futures import CancelledError, as_completed
from typing import Any, TypeVar

T = TypeVar("T")

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def run(work: Coroutine[Any, Any, T]) -> T:
    """Return the result of the coroutine, which runs on the shared loop; an interrupted caller cancels it there."""
    future = asyncio.run_coroutine_threadsafe(work, shared_loop())
    try:
        return future.result()
    except (KeyboardInterrupt, SystemExit, CancelledError):
        future.cancel()
        raise


def each(work: Iterable[Coroutine[Any, Any, T]]) -> Iterator[tuple[int, T]]:
    """Yield the place and result of each coroutine as it ends; a caller that stops cancels the rest."""
    loop = shared_loop()
    places = {asyncio.run_coroutine_threadsafe(one, loop): place for place, one in enumerate(work)}
    try:
        for future in as_completed(places):
            yield places[future], future.result()
    finally:
        for future in places:
            future.cancel()


def shared_loop() -> asyncio.AbstractEventLoop:
    """Return the process's loop, started in a thread of its own on first use."""
    global _loop  # noqa: PLW0603
    with _lock:
        if _loop is None or _loop.is_closed():
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="chat-requests", daemon=True).start()
        return _loop
