"""When frames are shown, told while a file is decoded: by their timestamps, or by count where those say nothing."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np

NEAR = 0.1  # of a frame's time that a timestamp may lie beside a steady rate: it is rounded to the container's ticks,
TICK_S = 0.00101  # ... which are milliseconds at the coarsest
LEAST_S = 1e-4  # frames are apart at least, once one of them was moved to the steady rate


class Clock:
    """Times of frames, numbered from 0, as stretches in which they follow at the rate that the file claims.

    From the first frame on whose timestamp is missing, repeats or runs back, frames are counted by that rate.
    """

    def __init__(self, fps: float) -> None:
        self.fps = fps
        self._first, self._at_s = array("q", [0]), array("d", [0.0])  # of each stretch: its first frame, and its time
        self._count = 0
        self._zero_s: float | None = None  # the first frame's timestamp
        self._last_s, self._now_s = -np.inf, -np.inf  # of the frame before: its timestamp, and its time
        self._counts = False

    def push(self, stamps_s: Sequence[float | None]) -> None:
        """Take the timestamps of the next frames, in seconds."""
        slack_s = max(NEAR / self.fps, TICK_S)
        for stamp in stamps_s:
            self._counts |= stamp is None or stamp <= self._last_s
            now_s = self._at_s[-1] + (self._count - self._first[-1]) / self.fps
            if stamp is not None and not self._counts:
                self._zero_s = stamp if self._zero_s is None else self._zero_s
                if abs(stamp - self._zero_s - now_s) > slack_s:
                    now_s = max(stamp - self._zero_s, self._now_s + LEAST_S)
                    self._first.append(self._count)
                    self._at_s.append(now_s)
                self._last_s = stamp
            self._count, self._now_s = self._count + 1, now_s

    def times_s(self, frames: np.ndarray) -> np.ndarray:
        """Return when frames appear, in seconds from the first: int64 [N] -> float64 [N].

        The frame after the last is when that one ends.
        """
        first, at_s = np.asarray(self._first), np.asarray(self._at_s)
        stretch = np.searchsorted(first, frames, side="right") - 1
        return at_s[stretch] + (frames - first[stretch]) / self.fps
