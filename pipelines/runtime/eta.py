"""When a run will be done: work is weighed by its pictures, not counted, and what is under way counts by its time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ENOUGH = 3
"""Pieces that are cut (files, and parts of long ones), before a time is named."""
LEAST_LEFT, MOST_OVERDUE = 0.1, 0.5
"""Of the time that a task should take: what it is thought to need at least, and at most once it outlasts that time."""
SETTLED_S = 60.0
"""Of a run, after which it is known how many workers it keeps busy: they have started by then."""


@dataclass(eq=False)
class Load:
    """A file's work: it is scanned, then its clips are cut.

    Args:
        work: megapixels, over all frames.
        parts: workers that scan it at once.
        scan_left: share of the scan that has not ended: 1 or 0.
        cut_left: share of the clips.
    """

    work: float = 0.0
    parts: float = 1.0
    scan_left: float = 1.0
    cut_left: float = 1.0


@dataclass(frozen=True)
class UnderWay:
    """A task that a worker is at.

    Args:
        loads: of the files that it scans, or of the one whose clips it cuts.
        seconds: since it began.
        cut_share: of that file's clips; 0: it scans.
    """

    loads: tuple[Load, ...]
    seconds: float
    cut_share: float = 0.0

    @property
    def work(self) -> float:
        """Of each worker that is at it."""
        if self.cut_share:
            return self.loads[0].work * self.cut_share
        return sum(load.work / load.parts for load in self.loads)

    @property
    def worker_s(self) -> float:
        """Seconds so far, of all workers that are at it."""
        return self.seconds * (1.0 if self.cut_share else self.loads[0].parts)


@dataclass
class Rate:
    """Seconds of a worker by megapixel, as finished work took."""

    seconds: float = 0.0
    work: float = 0.0
    pieces: int = 0

    def learn(self, seconds: float, work: float) -> None:
        """Note a finished piece of work."""
        self.seconds += seconds
        self.work += work
        self.pieces += 1

    def of(self, work: float) -> float:
        """Return the seconds that work is expected to take."""
        return work * self.seconds / self.work if self.work else 0.0


class Eta:
    """The time that a run will yet take."""

    def __init__(self, files: int, sizes: Mapping[str, int] | None = None) -> None:
        """Know nothing yet.

        Args:
            files: that are to be done.
            sizes: their bytes by name, where those of all are known.
        """
        self.files, self.sizes = files, dict(sizes or {})
        self.known, self.known_files, self.known_bytes = 0.0, 0, 0
        self.scans, self.cuts = Rate(), Rate()
        self.loads: dict[Load, None] = {}  # not done, in the order in which they are begun
        self.busy = 0.0  # workers, on average; 0: not known

    def learn(self, info: Mapping[str, Any] | None, name: str = "") -> Load:
        """Note what a file holds once its headers are read; None where they cannot be. name: as in `sizes`."""
        load = Load((_megapixels(info) or self._usual) if info else 0.0)
        self.known += load.work
        self.known_files += 1
        self.known_bytes += self.sizes.pop(name, 0)
        self.loads[load] = None
        return load

    def scanned(self, load: Load, seconds: float) -> None:
        """Note that a file is scanned. seconds: of one worker that would do it alone."""
        self.scans.learn(seconds, load.work)
        load.scan_left = 0.0

    def cut(self, load: Load, share: float, seconds: float) -> None:
        """Note that this share of a file's clips is cut."""
        self.cuts.learn(seconds, load.work * share)
        load.cut_left = max(0.0, load.cut_left - share)

    def finish(self, load: Load) -> None:
        """Note that a file is done; where it was not scanned, it was no work, and others may be none either."""
        if load not in self.loads:  # a row of a list that names no file
            self.files -= 1
            return
        del self.loads[load]
        if load.scan_left:
            self.known -= load.work
        elif load.cut_left == 1.0:  # it has no clips
            self.cuts.learn(0.0, load.work)

    def seconds_left(
        self, under_way: Iterable[UnderWay], workers: float, elapsed_s: float, other_s: float = 0.0
    ) -> float | None:
        """Return the seconds until all is done; None while too little is done to say.

        All workers share what is left, and no file is done before its own scan and then its cuts are.

        Args:
            under_way: tasks that workers are at.
            workers: that there are.
            elapsed_s: since the run began.
            other_s: of workers, that finished work beside scans and cuts took.
        """
        enough = 1 if self.sizes else ENOUGH
        if self.known_files < min(enough, self.files) or (self.loads and self.cuts.pieces < ENOUGH):
            return None
        tasks = list(under_way)
        workers = self._kept_busy(tasks, workers, elapsed_s, other_s)
        scanned, cut, longest_s = self._done_of(tasks)
        before_s = 0.0
        for load in self.loads:
            scan_s = self.scans.of(load.work) * max(0.0, load.scan_left - scanned.get(load, 0.0))
            cut_s = self.cuts.of(load.work) * max(0.0, load.cut_left - cut.get(load, 0.0))
            begins_s = before_s / workers if load.scan_left and load not in scanned else 0.0
            longest_s = max(longest_s, begins_s + scan_s / load.parts + cut_s / workers)
            before_s += scan_s + cut_s
        rest, largest = self._unknown_work()
        longest_s = max(longest_s, before_s / workers + self.scans.of(largest) + self.cuts.of(largest) / workers)
        return max(longest_s, (before_s + self.scans.of(rest) + self.cuts.of(rest)) / workers)

    def clips_left(self, clips: float) -> float:
        """Return how many clips are yet to be cut, by those of the work that is. clips: so far."""
        uncut = sum(load.work * load.cut_left for load in self.loads) + self._unknown_work()[0]
        return clips * uncut / self.cuts.work if self.cuts.work else 0.0

    @property
    def _unknown(self) -> int:
        """Files whose headers are not read yet."""
        return max(0, self.files - self.known_files)

    @property
    def _usual(self) -> float:
        """The work of a file of which nothing is known."""
        return self.known / self.known_files if self.known_files else 0.0

    def _unknown_work(self) -> tuple[float, float]:
        """Return the work of all files whose headers are not read yet, and of the largest: by size, else by number."""
        if not self.sizes or not self.known_bytes:
            return self._unknown * self._usual, 0.0
        of_byte = self.known / self.known_bytes
        return sum(self.sizes.values()) * of_byte, max(self.sizes.values()) * of_byte

    def _kept_busy(self, tasks: Sequence[UnderWay], workers: float, elapsed_s: float, other_s: float) -> float:
        """Return how many workers the run makes use of: others may use them too, or the driver not keep up.

        It is seen while files wait to be read; later, workers may have nothing to do.
        """
        if self._unknown and elapsed_s >= SETTLED_S:
            under_way_s = sum(task.worker_s for task in tasks)
            self.busy = (self.scans.seconds + self.cuts.seconds + other_s + under_way_s) / elapsed_s
        return max(1.0, min(workers, self.busy or workers))

    def _done_of(self, tasks: Iterable[UnderWay]) -> tuple[dict[Load, float], dict[Load, float], float]:
        """Return the shares that are done of scans under way, and of cuts; and when the last of these tasks ends."""
        scanned, cut = defaultdict[Load, float](float), defaultdict[Load, float](float)
        longest_s = 0.0
        for task in tasks:
            expected_s = (self.cuts if task.cut_share else self.scans).of(task.work)
            left_s = seconds_left_of(expected_s, task.seconds)
            longest_s = max(longest_s, left_s)
            share = 1.0 - left_s / expected_s if expected_s else 0.0
            for load in task.loads:
                if task.cut_share:
                    cut[load] += share * task.cut_share
                else:
                    scanned[load] = share
        return dict(scanned), dict(cut), longest_s


def seconds_left_of(expected_s: float, elapsed_s: float) -> float:
    """Return what a task is thought to need yet.

    One that outlasts what was expected of it takes half as long again as it is late: so it is never done before it is,
    and its time does not rise beyond a bound.
    """
    late = LEAST_LEFT * expected_s + max(0.0, elapsed_s - expected_s) / 2
    return max(expected_s - elapsed_s, min(late, MOST_OVERDUE * expected_s))


def _megapixels(info: Mapping[str, Any]) -> float:
    if info.get("is_image"):  # it has no length
        return info["width"] * info["height"] / 1e6
    return float(info.get("duration_s") or 0) * float(info.get("fps") or 0) * info["width"] * info["height"] / 1e6
