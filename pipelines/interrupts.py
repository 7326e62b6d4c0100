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

COMMITTED = "what was committed stays in the store, and the same command goes on"
_asked = threading.Event()
_raised = threading.Event()  # since `noted` began; a command that handles SIGINT itself says itself how it ended
_left: list[str] = []


@contextmanager
def noted() -> Iterator[None]:
    """Within it SIGINT raises KeyboardInterrupt, as always, and is noted as well. Nothing changes outside the main
    thread, nor where SIGINT is ignored (a script's `reel … &`)."""
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if ignored or threading.current_thread() is not threading.main_thread():
        yield
        return
    _asked.clear()
    _raised.clear()
    _left.clear()
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


def leaves(what: str) -> None:
    """Note what an interrupt leaves behind from here on, for the sentence that a person reads then."""
    _left[:] = [what]


def sentence() -> str:
    """How an interrupted command ended; empty where none was raised."""
    return "; ".join(["stopped", *_left]) if _raised.is_set() else ""


def _note(number: int, frame: FrameType | None) -> None:
    _asked.set()
    _raised.set()
    signal.default_int_handler(number, frame)
