"""Frame times: what the scan's timestamps say of a source's rate, and when they can be trusted."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

DEFAULT_RATE = Fraction(25)  # of a file that says nothing, such as one frame without a duration
MAX_RATE = 1000
TICK_SLACK = 1.01  # timestamps are rounded to ticks: a constant rate may be off by one


@dataclass(frozen=True)
class Timing:
    """When each frame of a source is shown.

    pts: int64 [N] timestamps in `time_base`, None where they cannot be trusted (missing, repeated or running back),
    and frames are then told by their count alone. rate: constant frame rate, None for a variable one. fps: average.
    """

    pts: np.ndarray | None
    time_base: Fraction
    rate: Fraction | None
    fps: float
    num_frames: int

    @property
    def is_vfr(self) -> bool:
        return self.rate is None

    def times_s(self) -> np.ndarray:
        """float64 [N + 1]: each frame's time in seconds from the first frame's, and the end of the last."""
        if self.rate is not None or self.pts is None:
            return np.arange(self.num_frames + 1) / float(self.rate or self.fps)
        times = (self.pts - self.pts[0]) * float(self.time_base)
        return np.append(times, times[-1] + 1 / self.fps)


def timing_of(pts: Sequence[int | None], time_base: Fraction, claims: Sequence[Fraction | None]) -> Timing:
    """Judge decoded timestamps. `claims`: rates that the container names, most trusted first."""
    rates = [Fraction(r) for r in claims if r and 0 < r <= MAX_RATE]
    if any(p is None for p in pts) or len(pts) < 2:
        return _counted(len(pts), time_base, rates, pts)
    stamps = np.asarray(pts, np.int64)
    if (np.diff(stamps) <= 0).any():
        return _counted(len(pts), time_base, rates, None)
    seconds = (stamps - stamps[0]) * float(time_base)
    measured = (len(stamps) - 1) / seconds[-1]
    slack_s = max(TICK_SLACK * float(time_base), 1e-6)
    for rate in rates:
        drift = seconds - np.arange(len(stamps)) / float(rate)
        if np.ptp(drift) <= 2 * slack_s:
            return Timing(stamps, time_base, rate, float(rate), len(stamps))
    rate = Fraction(measured).limit_denominator(1001)  # 0 where a clock jumps ahead by days: that is none
    if rate and np.ptp(seconds - np.arange(len(stamps)) / float(rate)) <= 2 * slack_s:
        return Timing(stamps, time_base, rate, float(rate), len(stamps))
    return Timing(stamps, time_base, None, float(rates[0]) if rates else measured, len(stamps))


def _counted(num_frames: int, time_base: Fraction, rates: list[Fraction], pts: Sequence[int | None] | None) -> Timing:
    rate = rates[0] if rates else DEFAULT_RATE
    only = np.asarray(pts, np.int64) if pts and pts[0] is not None and num_frames == 1 else None
    return Timing(only, time_base, rate, float(rate), num_frames)
