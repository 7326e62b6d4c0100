"""Ctrl-C that cannot be lost.

Python drops a KeyboardInterrupt that happens to be raised where exceptions are ignored: in `__del__`, in a weak
reference's callback, in logging's handlers around a fork (seen while Ray starts its processes). So it is noted too,
and the loops of a run ask.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_asked = threading.Event()


@contextmanager
def noted() -> Iterator[None]:
    """Within it SIGINT raises KeyboardInterrupt, as always, and is noted as well. Nothing changes outside the main
    thread, nor where SIGINT is ignored (a script's `reel … &`)."""
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if ignored or threading.current_thread() is not threading.main_thread():
        yield
        return
    _asked.clear()
    before = signal.signal(signal.SIGINT, _note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        _asked.clear()


def check() -> None:
    """Raise the KeyboardInterrupt that was lost, if one was. Cheap enough for every round of a loop."""
    if _asked.is_set():
        _asked.clear()
        raise KeyboardInterrupt


def _note(number: int, frame: FrameType | None) -> None:
    _asked.set()
    signal.default_int_handler(number, frame)
