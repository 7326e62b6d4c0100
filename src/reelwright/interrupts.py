"""Ctrl-C that cannot be lost, and SIGTERM, which ends a command in the same order.

Python drops a KeyboardInterrupt that happens to be raised where exceptions are ignored: in `__del__`, in a weak
reference's callback, in logging's handlers around a fork (seen while Ray starts its processes). So it is recorded too,
and the loops of a run ask.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

COMMITTED = "what was committed stays in the store, and the same command goes on"
SIGNALS = (signal.SIGINT, signal.SIGTERM)
_asked = threading.Event()
_raised = threading.Event()  # since `catch_sigint` began; a command that handles SIGINT itself says itself how it ended
_left: list[str] = []
_last = 0
_holding = 0  # blocks under `held`
_waits = False  # a signal for their end


@contextmanager
def catch_sigint() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into KeyboardInterrupt within the block, and record them.

    Nothing changes outside the main thread, nor for a signal that is ignored (SIGINT of a script's `reel … &`).
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _asked.clear()
    _raised.clear()
    _left.clear()
    before = {n: signal.getsignal(n) for n in SIGNALS if signal.getsignal(n) is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, _note)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _asked.clear()


@contextmanager
def kept() -> Iterator[None]:
    """Put SIGTERM's handler back after something that sets its own: `ray.init` sets one that exits without a word."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread() and before is not None:
        signal.signal(signal.SIGTERM, before)


def exit_code() -> int:
    """Return the exit code of a command that was stopped: 130 by Ctrl-C, 143 by SIGTERM, as shells have it."""
    return 128 + (_last or signal.SIGINT)


def check() -> None:
    """Raise the KeyboardInterrupt that was lost, if one was. Cheap enough for every round of a loop."""
    if _asked.is_set():
        _asked.clear()
        raise KeyboardInterrupt


@contextmanager
def held() -> Iterator[None]:
    """Let the first Ctrl-C wait for the end of the block; a second one does not wait.

    It is for statements that belong together, as a commit and its count.
    """
    global _holding, _waits  # noqa: PLW0603 - the process's
    _holding += 1
    try:
        yield
    finally:
        _holding -= 1
    if _waits and not _holding:
        _waits = False
        check()


def leaves(what: str) -> None:
    """Note the state that an interrupt leaves behind from here on, for the sentence that a person reads then."""
    _left[:] = [what]


def sentence() -> str:
    """How an interrupted command ended; empty where none was raised."""
    return "; ".join(["stopped", *_left]) if _raised.is_set() else ""


def _note(number: int, frame: FrameType | None) -> None:
    global _last, _waits  # noqa: PLW0603 - the process's
    _last = number
    _waits = _holding > 0 and not _asked.is_set()
    _asked.set()
    _raised.set()
    if not _waits:
        signal.default_int_handler(number, frame)
