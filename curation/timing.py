"""Frame times: a source's rate by the scan's timestamps, and when they can be trusted."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

import numpy as np

DEFAULT_RATE = Fraction(25)  # of a file that says nothing, such as one frame without a duration
MAX_RATE = 1000
TICK_SLACK = 1.01  # timestamps are rounded to ticks: a constant rate may be off by one
HOLE_S = 0.5  # a gap in an else steady stream is a hole from this on,
HOLE_STEPS = 8  # and from this many of its frames: the recording there is lost
FRAMES_A_HOLE = 50  # more holes than one in this many frames: pictures that stand, as in recordings of a screen
STEADY_SHARE = 0.95  # of the steps of a steady stream are like the middle one,
STEADY_JITTER = 0.5  # to within this share of it: cameras' clocks shake, and some films change between two rates
CLOCK_JUMP_S = 60.0  # longer than a picture stands in any moving footage: the clock jumped
KNOWN_SHARE = 0.8  # of frames must have times of their own, if their pace is to say something
AGREES = 0.02  # a length that is off by no more than this share of it agrees


@dataclass(frozen=True)
class Timing:
    """When each frame of a source is shown.

    pts: int64 [N] timestamps in `time_base`, None where they cannot be trusted (missing, repeated or running back),
    and frames are then identified by their count alone. rate: constant frame rate, None for a variable one. fps:
    average. holes: frames before which an else steady stream has a gap; a constant rate holds between them. Where
    frames are counted, their times know nothing of it.
    """

    pts: np.ndarray | None
    time_base: Fraction
    rate: Fraction | None
    fps: float
    num_frames: int
    holes: tuple[int, ...] = field(default=())

    @property
    def is_vfr(self) -> bool:
        """Whether the frame rate varies."""
        return self.rate is None

    def times_s(self) -> np.ndarray:
        """float64 [N + 1]: each frame's time in seconds from the first frame's, and the end of the last."""
        if self.pts is None or (self.rate is not None and not self.holes):
            return np.arange(self.num_frames + 1) / float(self.rate or self.fps)
        times = (self.pts - self.pts[0]) * float(self.time_base)
        if self.rate is not None:
            for a, b in pairwise((0, *self.holes, self.num_frames)):
                times[a:b] = times[a] + np.arange(b - a) / float(self.rate)
        return np.append(times, times[-1] + 1 / self.fps)


def timing_of(
    pts: Sequence[int | None],
    time_base: Fraction,
    claims: Sequence[Fraction | None],
    lengths_s: Iterable[float] = (),
    lost: Sequence[int] = (),
) -> Timing:
    """Judge decoded timestamps. `claims`: rates that the container names, most trusted first.

    lengths_s: length of the whole by other facts (decoding times, the container), most trusted first; where
    timestamps say nothing, they tell which claim is true. lost: timestamps of frames that could not be decoded: where
    they were, a gap is a hole.
    """
    rates = [Fraction(r) for r in claims if r and 0 < r <= MAX_RATE]
    if any(p is None for p in pts) or len(pts) < 2:
        return _counted(len(pts), time_base, rates, pts, lengths_s)
    stamps = np.asarray(pts, np.int64)
    if (np.diff(stamps) <= 0).any():
        return _counted(len(pts), time_base, rates, pts, lengths_s)
    seconds = (stamps - stamps[0]) * float(time_base)
    slack_s = max(TICK_SLACK * float(time_base), 1e-6)
    rate = _constant(seconds, rates, slack_s, ())
    holes = () if rate else _holes(seconds, float(time_base), _steps_with(stamps, lost))
    if holes:
        rate = _constant(seconds, rates, slack_s, holes)
    fps = float(rate) if rate else _mean_rate(seconds, holes)
    return Timing(stamps, time_base, rate, fps, len(stamps), holes)


def _constant(seconds: np.ndarray, rates: list[Fraction], slack_s: float, holes: Sequence[int]) -> Fraction | None:
    """Return the rate that all frames keep between holes, claimed or measured; None if there is none."""
    runs = [seconds[a:b] for a, b in pairwise((0, *holes, len(seconds)))]
    longest = max(runs, key=len)
    measured = (
        Fraction((len(longest) - 1) / (longest[-1] - longest[0])).limit_denominator(1001) if len(longest) > 1 else 0
    )
    last = runs[-1]
    if len(last) > 2 and last[-1] - last[-2] < last[1] - last[0]:  # AVI's last frame may come early: all others tell
        runs[-1] = last[:-1]
    for rate in (*rates, measured):  # 0 where a clock jumps ahead by days: that is none
        if rate and all(np.ptp(run - np.arange(len(run)) / float(rate)) <= 2 * slack_s for run in runs):
            return Fraction(rate)
    return None


def _steps_with(stamps: np.ndarray, lost: Sequence[int]) -> np.ndarray:
    """Return bool [N - 1]: between which frames some were lost."""
    found = np.zeros(len(stamps) - 1, bool)
    after = np.searchsorted(stamps, np.asarray(lost, np.int64))
    found[after[(after > 0) & (after < len(stamps))] - 1] = True
    return found


def _holes(seconds: np.ndarray, tick_s: float, has_lost: np.ndarray) -> tuple[int, ...]:
    """Find the frames before which a steady stream has a gap.

    Where pictures stand for different times anyhow, only gaps in which frames were lost count. has_lost: bool [N - 1].
    """
    steps = np.diff(seconds)
    usual = float(np.median(steps))
    steady = np.abs(steps - usual) <= max(2 * tick_s, STEADY_JITTER * usual)
    gaps = np.flatnonzero(steps > max(HOLE_S, HOLE_STEPS * usual)) + 1
    few = len(gaps) <= max(1, len(seconds) // FRAMES_A_HOLE)
    if few and steady.sum() >= STEADY_SHARE * (len(steps) - len(gaps)):
        return tuple(gaps.tolist())
    return tuple(gaps[has_lost[gaps - 1]].tolist())


def _mean_rate(seconds: np.ndarray, holes: Sequence[int]) -> float:
    """Frames a second, where the stream runs: a hole or a jump of the clock counts as a frame."""
    steps = np.diff(seconds)
    runs = steps <= CLOCK_JUMP_S
    runs[np.asarray(holes, np.int64) - 1] = False
    return float(1 / (steps[runs].mean() if runs.any() else np.median(steps)))


def _counted(
    num_frames: int,
    time_base: Fraction,
    rates: list[Fraction],
    pts: Sequence[int | None],
    lengths_s: Iterable[float],
) -> Timing:
    known = np.unique([p for p in pts if p is not None])
    rate = _believed(num_frames, rates, [*_length_by(known, num_frames, time_base), *lengths_s])
    only = known.astype(np.int64) if num_frames == len(known) == 1 else None
    return Timing(only, time_base, rate, float(rate), num_frames, _holes_of_counted(pts, time_base, float(rate)))


def _holes_of_counted(pts: Sequence[int | None], time_base: Fraction, fps: float) -> tuple[int, ...]:
    """Frames before which times that are otherwise of no use leap ahead, and stay there."""
    known = np.array([i for i, p in enumerate(pts) if p is not None], np.int64)
    if len(known) < max(3, KNOWN_SHARE * len(pts)):
        return ()
    seconds = np.array([p for p in pts if p is not None], np.float64) * float(time_base)
    latest = np.maximum.accumulate(seconds)
    earliest = np.minimum.accumulate(seconds[::-1])[::-1]  # of a frame and all after it
    gaps = np.flatnonzero(earliest[1:] - latest[:-1] > max(HOLE_S, HOLE_STEPS / fps)) + 1
    return tuple(known[gaps].tolist()) if len(gaps) <= max(1, len(pts) // FRAMES_A_HOLE) else ()


def _length_by(known: np.ndarray, num_frames: int, time_base: Fraction) -> list[float]:
    """Estimate the length of the whole by timestamps that came in a wrong order, such as decoding times.

    Returns an empty list where they are few, or do not keep a pace.
    """
    if len(known) < max(3, KNOWN_SHARE * num_frames):
        return []
    steps = np.diff(known)
    usual = np.median(steps)
    like = steps[np.abs(steps - usual) <= max(1.0, STEADY_JITTER * usual)]
    return [num_frames * float(like.mean() * time_base)] if len(like) >= KNOWN_SHARE * len(steps) else []


def _believed(num_frames: int, rates: list[Fraction], lengths_s: Iterable[float]) -> Fraction:
    """Return the claimed rate at which the frames last as long as they should; the first claim where none does."""
    for length_s in lengths_s if num_frames > 1 else ():
        agreeing = [r for r in rates if abs(num_frames / r - length_s) <= max(AGREES * length_s, 1.5 / r)]
        if agreeing:
            return min(agreeing, key=lambda rate: abs(float(num_frames / rate) - length_s))
    return rates[0] if rates else DEFAULT_RATE
