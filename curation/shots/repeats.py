"""Repeated frames: a webcam's ten pictures a second in a file of thirty, animation on threes, film carried to video.

A repeat hardly differs from the frame before, though pictures around it do: steps of nearly nothing between real ones,
again and again. A still scene has no real steps around it and keeps its frames. Flashes, black or white for a moment
between pictures, are left out as well. Shots are judged on distinct pictures, and numbers lead back to the source's
frames.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np

from reelwright.curation.shots.footage import HEIGHT, WIDTH, mean_colour, shrink

NEW, REPEAT, FLASH = 0, 1, 2
START = 255.0  # grey levels that the first frame is taken to have changed
LONGEST_S = 0.3  # a picture that stands longer is a still, not a repeat
AROUND_S = 1.2  # before and after, where a pattern has to be seen
SHORTEST_AROUND, LONGEST_AROUND = 16, 72  # frames, whatever rate a file claims
LOCAL = 16  # pixels of 27 x 48 that changed most: a moving thing may be as small as a mouth
NOTHING = 2.0  # grey levels over those: noise of an encoder that repeats a picture
LITTLE = 6.0  # ... of a coarse one, where hardly a step is
BETWEEN = 12.0  # ... larger than that and below this, as they are where something slows down and stops
REAL = 2.0  # grey levels of a real step at least, and
CLEAR = 5.0  # ... times a repeat's
FEWEST = 4  # repeats, with real steps on both sides, that make a pattern
SHARE = 0.1  # of the frames around that are repeats; in 27 frames of 30 they are
GOES_ON = 0.6  # correlation with the next picture, moved; unrelated pictures: below 0.45 in three of four pairs
NEAR_SHIFTS = [(dy, dx) for dy in (-1, 0, 1) for dx in range(-5, 6)]  # fine pictures show nothing of others
SHIFTS = [*NEAR_SHIFTS, *((dy, dx) for dy in (-4, -2, 0, 2, 4) for dx in range(-15, 16, 3))]  # pixels of 27 x 48
FLAT, BLACK, WHITE = 6.0, 24.0, 232.0  # grey levels: contrast, and brightness, of a flash's frames
CLEAR_PICTURE = 15.0  # grey levels of contrast on both sides; a fade gets to black by less
FLASH_S, FLASHING_S = 0.17, 0.4  # longest flash; longest of
FLASHES = 2  # ... several
WINDOW_S = 2.0  # over which a rate is taken
FEWER = 0.93  # of the frames are distinct, or some repeat by chance


class Distinct:
    """The distinct pictures of a stream of frames, in order, and the source's number of each.

    The last one known is held back until it is known how long it stands. How frames arrive makes no difference.
    """

    def __init__(self, fps: float) -> None:
        self.numbers = array("q")  # source's frame of each picture; at the end, the number of frames as well
        self.flashes = array("q")  # source's frames that are flashes
        self._repeats = Repeats(fps)
        self._last: np.ndarray | None = None  # uint8 [27, 48, 3], the frame pushed last
        self._waiting: list[np.ndarray] = []  # frames not decided yet
        self._held: list[np.ndarray] = []  # the picture not handed out yet
        self._told = 0

    def push(self, frames: np.ndarray) -> np.ndarray:
        """frames: uint8 [n, h, w, 3] -> the distinct pictures that can be judged now, [m, h, w, 3]."""
        small = shrink(frames)
        before = np.concatenate((small[:1] if self._last is None else self._last[None], small[:-1]))
        self._last = small[-1]
        self._waiting.extend(frames)
        return self._hand_out(self._repeats.push(before, small), keep=1)

    def flush(self) -> np.ndarray:
        """Return the pictures left at the end."""
        shape = self._waiting[0].shape if self._waiting else (HEIGHT, WIDTH, 3)
        left = self._hand_out(self._repeats.flush(), keep=0)
        self.numbers.append(self._told)
        return left if len(left) else np.empty((0, *shape), np.uint8)

    def _hand_out(self, kinds: np.ndarray, *, keep: int) -> np.ndarray:
        for kind, frame in zip(kinds.tolist(), self._waiting, strict=False):
            if kind == NEW:
                self.numbers.append(self._told)
                self._held.append(frame)
            elif kind == FLASH:
                self.flashes.append(self._told)
            self._told += 1
        del self._waiting[: len(kinds)]
        out = self._held[: len(self._held) - keep]
        del self._held[: len(out)]
        return np.stack(out) if out else np.empty((0, HEIGHT, WIDTH, 3), np.uint8)


class Repeats:
    """Tells repeats and flashes as frames come in, each by the frames around it."""

    def __init__(self, fps: float) -> None:
        self.longest = max(2, round(min(LONGEST_S * fps, LONGEST_AROUND / 3)))
        self.around = int(np.clip(round(AROUND_S * fps), SHORTEST_AROUND, LONGEST_AROUND))
        self.flash, self.flashing = (max(2, min(LONGEST_AROUND // 3, round(s * fps))) for s in (FLASH_S, FLASHING_S))
        self._steps, self._goes_on = np.empty(0), np.empty(0)
        self._contrast, self._blank = np.empty(0), np.empty(0, bool)
        self._first = 0  # frame of _steps[0]
        self._next = 0  # frame to tell next
        self._has_ended = False

    def push(self, before: np.ndarray, small: np.ndarray) -> np.ndarray:
        """Take the next frames.

        Args:
            before: the frame before each, as `small`.
            small: uint8 [n, 27, 48, 3], the next frames.

        Returns:
            NEW, REPEAT or FLASH of each frame that can be classified now, in order.
        """
        steps = _local_change(before, small)
        if self._first + len(self._steps) == 0:
            steps[:1] = START  # nothing is repeated by a first frame
        came = np.concatenate((self._steps[-1:] if len(self._steps) else [START], steps[:-1]))
        goes_on = np.full(len(steps), np.nan)  # asked only where a picture follows one that stood
        for i in np.flatnonzero((came < LITTLE) & (steps > REAL)):
            goes_on[i] = _moves_to(before[i], small[i])
        colour, contrast = mean_colour(small), (_over_rgb(small.astype(np.float64)) / 3).std((1, 2))
        blank = (contrast < FLAT) & ((colour.max(1) < BLACK) | (colour.min(1) > WHITE))
        self._steps, self._goes_on = np.concatenate((self._steps, steps)), np.concatenate((self._goes_on, goes_on))
        self._contrast, self._blank = np.concatenate((self._contrast, contrast)), np.concatenate((self._blank, blank))
        return self._tell_until(self._first + len(self._steps) - self._reach)

    def flush(self) -> np.ndarray:
        """As `push`, of all remaining frames: the last picture ends."""
        self._has_ended = True
        return self._tell_until(self._first + len(self._steps))

    @property
    def _reach(self) -> int:
        return self.around + max(self.longest, self.flashing) + 2

    def _tell_until(self, until: int) -> np.ndarray:
        if until <= self._next:
            return np.empty(0, np.int8)
        told = self._tell(self._next - self._first, until - self._first)
        self._next = until
        forget = max(0, until - self._reach - self._first)
        self._steps, self._goes_on, self._first = self._steps[forget:], self._goes_on[forget:], self._first + forget
        self._contrast, self._blank = self._contrast[forget:], self._blank[forget:]
        return told

    def _tell(self, begin: int, end: int) -> np.ndarray:
        """Classify frames [begin, end) of the frames held: NEW, REPEAT or FLASH."""
        at = np.arange(begin, end)
        lo, hi = (at - self.around).clip(0), (at + self.around + 1).clip(max=len(self._steps))
        stands = self._between_real_ones()
        little, between = (self._steps >= NOTHING) & stands, (self._steps >= LITTLE) & (self._steps < BETWEEN)
        count = _within(stands, lo, hi)
        asked, goes_on = _within(~np.isnan(self._goes_on), lo, hi), _within(self._goes_on > GOES_ON, lo, hi)
        is_clear = (self._steps[at] < NOTHING) | (4 * _within(between, lo, hi) <= _within(little, lo, hi))
        repeats = stands[at] & is_clear & (count >= FEWEST) & (count >= SHARE * (hi - lo)) & (2 * goes_on >= asked)
        length, is_inside = self._flash_lengths()
        begins = (length > 0) & ~np.concatenate(([False], length[:-1] > 0))
        is_short = is_inside & (length <= self.flash)  # a single one at an end of the file may be a fade, or a shot
        flashes = (length[at] > 0) & (is_short[at] | (_within(begins, lo, hi) >= FLASHES))
        return np.where(flashes, FLASH, np.where(repeats, REPEAT, NEW)).astype(np.int8)

    def _flash_lengths(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the lengths of flashes: frames of black or white beside clear pictures.

        Returns:
            How many there are in a row, else 0; and whether they have a picture on both sides, and the file neither
            begins nor ends with them.
        """
        edges = np.flatnonzero(np.diff(np.pad(self._blank.astype(np.int8), 1)))
        length, is_inside = np.zeros(len(self._blank), int), np.zeros(len(self._blank), bool)
        for lo, hi in zip(edges[::2], edges[1::2], strict=True):  # frames [lo, hi)
            begins, ends = lo == 0 and self._first == 0, hi == len(length) and self._has_ended
            if (lo == 0 and not begins) or (hi == len(length) and not ends) or hi - lo > self.flashing:
                continue
            beside = ([] if begins else [lo - 1]) + ([] if ends else [hi])
            if beside and self._contrast[beside].min() > CLEAR_PICTURE:
                length[lo:hi], is_inside[lo:hi] = hi - lo, not (begins or ends)
        return length, is_inside

    def _between_real_ones(self) -> np.ndarray:
        """Return the steps of nearly nothing with real ones before and after, near enough."""
        steps, reach = self._steps, self.longest
        padded = np.pad(steps, reach, constant_values=(0.0, START if self._has_ended else 0.0))
        highest = np.lib.stride_tricks.sliding_window_view(padded, reach).max(1)  # [i]: of steps [i - reach, i)
        real = np.minimum(highest[: len(steps)], highest[reach + 1 : reach + 1 + len(steps)])
        return (steps < LITTLE) & (real > REAL) & (real > CLEAR * steps)


def _within(flags: np.ndarray, lo: np.ndarray, hi: np.ndarray) -> np.ndarray:
    total = np.concatenate(([0], np.cumsum(flags)))
    return total[hi] - total[lo]


def _local_change(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """How much pictures changed where they changed most, in grey levels: uint8 RGB [n, 27, 48, 3] twice -> [n]."""
    change = _over_rgb(np.abs(after.astype(np.int16) - before)).reshape(len(after), -1)
    return np.partition(change, -LOCAL, axis=1)[:, -LOCAL:].mean(1) / 3


def _over_rgb(values: np.ndarray) -> np.ndarray:
    """Sum over the last axis [..., 3]: numpy's sum takes many times as long over three values."""
    return values[..., 0] + values[..., 1] + values[..., 2]


def _moves_to(before: np.ndarray, after: np.ndarray) -> float:
    """Highest correlation of two pictures, [27, 48, 3], over SHIFTS of one of them."""
    a, b = before.mean(-1), after.mean(-1)
    best = 0.0
    for dy, dx in SHIFTS:
        x = a[max(0, dy) : HEIGHT + min(0, dy), max(0, dx) : WIDTH + min(0, dx)].ravel()
        y = b[max(0, -dy) : HEIGHT + min(0, -dy), max(0, -dx) : WIDTH + min(0, -dx)].ravel()
        x, y = x - x.mean(), y - y.mean()
        best = max(best, float(x @ y) / (float(np.sqrt((x @ x) * (y @ y))) + 1.0))
        if best > GOES_ON:
            break
    return best


def true_rate(distinct: Sequence[int] | np.ndarray, times_s: np.ndarray, start: int, end: int, fps: float) -> float:
    """Return the distinct pictures per second in frames [start, end).

    It is the median over stretches of two seconds; `fps` where no frame repeats.

    Args:
        distinct: numbers of the frames that repeat no other, in order.
        times_s: [N + 1], as `Timing.times_s`.
        start: first frame.
        end: frame after the last.
        fps: frame rate of the source.
    """
    numbers = np.asarray(distinct, np.int64)
    numbers = numbers[np.searchsorted(numbers, start) : np.searchsorted(numbers, end)]
    if len(numbers) == end - start or len(numbers) < 2:
        return fps
    at = times_s[numbers]
    parts = max(1, int((times_s[end] - times_s[start]) / WINDOW_S))
    part = np.minimum(((at - times_s[start]) * parts / (times_s[end] - times_s[start])).astype(int), parts - 1)
    rates = [_rate(numbers[part == i], at[part == i], fps) for i in range(parts)]
    rate = float(np.median([r for r in rates if r is not None] or [fps]))
    return rate if rate < FEWER * fps else fps


def _rate(numbers: np.ndarray, at: np.ndarray, fps: float) -> float | None:
    if len(numbers) < 2 or at[-1] <= at[0]:
        return None
    return fps if numbers[-1] - numbers[0] == len(numbers) - 1 else min(fps, (len(at) - 1) / float(at[-1] - at[0]))
