"""The arguments of a block of measurements, and how it measures."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks.gpu.report import Figure, Report

TARGET_S = 0.3
"""Seconds that the timed repeats of one figure take, about."""


@dataclass
class Bench:
    """A block at work.

    Attributes:
        block: its name.
        report: where its rows go.
        until: `time.monotonic` at which its time box ends.
        toy: small sizes on a CPU, so that tests walk through.
    """

    block: str
    report: Report
    until: float
    toy: bool = False
    device: torch.device = field(default_factory=lambda: torch.device("cuda" if torch.cuda.is_available() else "cpu"))

    @property
    def left_s(self) -> float:
        """Seconds left in the time box."""
        return self.until - time.monotonic()

    def add(self, case: str, **figures: Figure) -> None:
        """Write a row."""
        self.report.add(self.block, {"case": case, **figures})

    def note(self, text: str) -> None:
        """Write a note."""
        self.report.note(self.block, text)

    def attempt(self, case: str, run: Callable[[], dict[str, Figure]], *, needs_s: float = 0.0) -> bool:
        """Measure a case and write its row; an error is a note, and the next case follows.

        Args:
            case: its name.
            run: returns its figures.
            needs_s: seconds it takes, about: with fewer left it is passed over, which a note says.

        Returns:
            Whether there are figures.
        """
        if self.left_s <= needs_s:
            self.note(f"{case}: left out, {max(0.0, self.left_s):.0f} s of the time box are left")
            return False
        try:
            figures = run()
        except Exception as error:  # one failure must not cost the other measurements
            self.note(f"{case}: FAILED {type(error).__name__}: {str(error)[:600]}")
            return False
        self.add(case, **figures)
        return True

    def milliseconds(self, run: Callable[[], Any], *, target_s: float = TARGET_S) -> float:
        """Return the median time of a call on the device. Nothing waits for the host between the repeats.

        Two calls go first: one compiles and fills caches, one tells how many repeats fit.
        """
        run()
        first = self._times(run, 1)[0]
        if self.toy:
            return first
        return statistics.median(self._times(run, max(3, min(50, int(1000 * target_s / max(first, 1e-3))))))

    def _times(self, run: Callable[[], Any], repeats: int) -> list[float]:
        if self.device.type != "cuda":
            began = time.perf_counter()
            for _ in range(repeats):
                run()
            return [1000 * (time.perf_counter() - began) / repeats] * repeats
        marks = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(repeats)]
        torch.cuda.synchronize()
        for start, end in marks:
            start.record()
            run()
            end.record()
        torch.cuda.synchronize()
        return [start.elapsed_time(end) for start, end in marks]
