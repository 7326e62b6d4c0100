"""SIGTERM and SIGINT end a run after the step that it is in."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

EXIT_CODES = {signal.SIGTERM: 0, signal.SIGINT: 130}


@dataclass
class Stopping:
    """signal: the number of the one that came; 0: none has."""

    signal: int = 0


@contextmanager
def watch() -> Iterator[Stopping]:
    """Note the first signal; a second one acts as it always does. Outside the main thread (Ray Train) none is seen."""
    noted = Stopping()
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    before = {number: signal.getsignal(number) for number in EXIT_CODES}

    def note(number: int, _: FrameType | None) -> None:
        noted.signal = number
        for one, handler in before.items():
            signal.signal(one, handler)

    for number in EXIT_CODES:
        signal.signal(number, note)
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
