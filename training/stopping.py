"""SIGTERM and SIGINT end a run after the micro-batch that it is in: a whole step may take longer than one is given.

torchrun kills its processes 30 s after it has passed a signal on, or after --shutdown-timeout.
"""

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
    """Note the first signal; a second one acts as it always does. Outside the main thread (Ray Train's
    workers) none is seen: such a run goes on from its last checkpoint."""
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
