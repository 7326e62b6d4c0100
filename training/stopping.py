"""Signals and requests that end a run before its last step: SIGTERM, SIGINT, or a file in the run's folder.

A run ends after the micro-batch under way: a whole step may take longer than the time it is given.

Ranks must end at the same micro-batch. Each rank's signal travels with the sum of losses that a step makes anyway, and
within a step, which may be long, ranks ask one another about every `ASK_S`. torchrun kills its processes 30 s after it
has passed a signal on, or after --shutdown-timeout.
"""

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reelwright.training.distributed.world import World

EXIT_CODES = {signal.SIGTERM: 0, signal.SIGINT: 130}
REQUEST = "stop"  # the file's name
ASK_S = 5.0
"""Seconds of a step after which ranks ask one another. In a shorter step none asks."""


@dataclass
class Stopping:
    """noted: the number of the signal that came; 0: none has. request: the file that may ask for the same."""

    noted: int = 0
    request: Path | None = None

    @property
    def signal(self) -> int:
        """The signal, or the number of the request, that asks for an end; 0: none."""
        return self.noted or (requested(self.request) if self.request else 0)


@dataclass
class Agreement:
    """How the ranks of a run end at the same micro-batch.

    every: micro-batches between two questions within a step; measured in the step before, the same on all ranks.
    """

    world: "World"
    stopping: Stopping
    every: int = 1
    _began: float = 0.0

    def begin_step(self) -> None:
        """Begin to measure a step."""
        self._began = time.monotonic()

    def within(self, micro: int) -> int:
        """Return the signal to end by before micro-batch `micro` of a step; 0: continue. All ranks call it."""
        if self.world.size == 1:
            return self.stopping.signal
        return self.world.largest(self.stopping.signal) if micro % self.every == 0 else 0

    def words(self, micros: int) -> list[float]:
        """Return this rank's numbers, to be summed over all ranks at the end of a step of `micros` micro-batches."""
        asked = [float(self.stopping.signal == number) for number in EXIT_CODES]
        return [*asked, (time.monotonic() - self._began) / micros]

    def heard(self, sums: Sequence[float]) -> int:
        """Take the sums of `words`; return the signal to end by, 0: continue. The same on all ranks."""
        if self.world.size == 1:
            return self.stopping.signal
        *asked, seconds = sums
        self.every = max(1, int(ASK_S * self.world.size / max(seconds, 1e-9)))
        return max((int(number) for number, ranks in zip(EXIT_CODES, asked, strict=True) if ranks), default=0)


@contextmanager
def watch(request: Path | None = None) -> Iterator[Stopping]:
    """Record the first signal; a second one acts as it always does.

    Outside the main thread (Ray Train's workers) no signal is seen: there `request`, a file, passes on the driver's
    signal. It is gone at the end.
    """
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
    """Return the signal that a file stands for: SIGTERM where it is empty, as by `touch`; 0 where it does not exist."""
    try:
        said = request.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return 0
    return int(said) if said in {str(int(number)) for number in EXIT_CODES} else int(signal.SIGTERM)
