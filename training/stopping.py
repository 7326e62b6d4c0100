"""What ends a run before its last step: SIGTERM, SIGINT, or a file in the run's folder. It ends after the micro-batch
that it is in: a whole step may take longer than one is given.

torchrun kills its processes 30 s after it has passed a signal on, or after --shutdown-timeout.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

EXIT_CODES = {signal.SIGTERM: 0, signal.SIGINT: 130}
REQUEST = "stop"  # the file's name


@dataclass
class Stopping:
    """noted: the number of the signal that came; 0: none has. request: the file that may ask for the same."""

    noted: int = 0
    request: Path | None = None

    @property
    def signal(self) -> int:
        """The number of what asks for an end; 0: nothing does."""
        return self.noted or (requested(self.request) if self.request else 0)


@contextmanager
def watch(request: Path | None = None) -> Iterator[Stopping]:
    """Note the first signal; a second one acts as it always does. Outside the main thread (Ray Train's workers) none is
    seen: there `request`, a file, says what the driver was told. It is gone at the end."""
    stopping = Stopping(request=request)
    with _handlers(stopping) if threading.current_thread() is threading.main_thread() else nullcontext():
        try:
            yield stopping
        finally:
            if request:
                request.unlink(missing_ok=True)


@contextmanager
def _handlers(stopping: Stopping) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in EXIT_CODES}

    def note(number: int, _: FrameType | None) -> None:
        stopping.noted = number
        for one, handler in before.items():
            signal.signal(one, handler)

    for number in EXIT_CODES:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ask(request: Path, number: int) -> None:
    """Ask the run that looks there to end, as `number` would."""
    request.write_text(str(number), encoding="utf-8")


def requested(request: Path) -> int:
    """The signal that a file stands for: SIGTERM where it is empty, as `touch` leaves it; 0 where it is not there."""
    try:
        said = request.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return 0
    return int(said) if said in {str(int(number)) for number in EXIT_CODES} else int(signal.SIGTERM)
