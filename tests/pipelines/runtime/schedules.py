"""A schedule of a curation, simulated: lengths and stages as in a run; clock and workers are numbers."""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from reelwright.pipelines.annotate.time_ahead import SET, Ahead, AnnotatingAhead
from reelwright.pipelines.runtime.eta import Eta, Load, UnderWay

SCAN_S, CUT_S, FILE_S, PROBE_S = 0.008, 0.025, 0.1, 0.2
"""Seconds of a worker: per megapixel of a scan and of a cut, beside that per task, and per probe."""
BATCH_S = 40.0  # of footage that one task cuts
ASKED_EVERY_S = 2.0
ANNOTATED_CLIPS = 16  # of one task
STAGES = ("cut", "part", "scan", "probe")  # later ones first; parts of a film are tasks that its scan starts


@dataclass(frozen=True)
class Film:
    """A file.

    Args:
        length_s: of its footage.
        byte_rate: of its encoding, per second.
        dear: times that its scan takes longer than others for the same pictures.
        parts: that its scan falls into.
        clip_s: length of its clips.
    """

    length_s: float
    byte_rate: float = 500_000.0
    dear: float = 1.0
    parts: int = 1
    clip_s: float = 5.0

    @property
    def info(self) -> dict[str, Any]:
        """What its headers say."""
        return {"duration_s": self.length_s, "fps": 25.0, "width": 1280, "height": 720}

    @property
    def megapixels(self) -> float:
        """Over all frames."""
        return self.length_s * 25 * 1280 * 720 / 1e6

    def shares(self) -> Iterator[float]:
        """Yield the share of the clips that each task cuts."""
        at = 0.0
        while at < self.length_s:
            yield min(BATCH_S, self.length_s - at) / self.length_s
            at += BATCH_S


@dataclass(frozen=True)
class Task:
    """A task on file number `film`; share: of the file's clips, or frames."""

    stage: str
    film: int
    share: float = 1.0
    began: float = 0.0


@dataclass(frozen=True)
class Said:
    """The time left as it was said, and as it was in truth."""

    at: float
    left_s: float | None
    true_s: float


class Schedule:
    """Workers that curate films in order: what waits for a later stage goes first.

    Args:
        films: in order.
        workers: that there are.
        slow: how many times as long as usual a task takes that begins at this time.
        sizes: whether sizes are known before files are read.
        after: what is annotated once all clips are cut, and is said to be.
    """

    def __init__(
        self,
        films: Sequence[Film],
        workers: int,
        slow: Callable[[float], float] = lambda at: 1.0,
        *,
        sizes: bool = True,
        after: AnnotatingAhead | None = None,
    ) -> None:
        self.films, self.workers, self.slow, self.after, self.clips = films, workers, slow, after, 0.0
        self.eta = Eta(
            len(films), {str(n): int(f.length_s * f.byte_rate) for n, f in enumerate(films)} if sizes else None
        )
        self.loads: dict[int, Load] = {}
        self.waiting: dict[str, deque[Task]] = {stage: deque() for stage in STAGES}
        self.waiting["probe"] += [Task("probe", number) for number in range(len(films))]
        self.at_work: list[tuple[float, int, Task]] = []
        self.open = defaultdict[int, int](int)  # tasks of a file's stage that have not ended
        self.scan_began: dict[int, float] = {}
        self.now, self.probes_s, self.numbers = 0.0, 0.0, count()

    def run(self) -> list[Said]:
        """Return what is said of the time left, from the beginning to the end."""
        said: list[tuple[float, float | None]] = []
        self._start()
        while self.at_work:
            while (at := ASKED_EVERY_S * len(said)) < self.at_work[0][0]:
                said.append((at, self._said(at)))
            self.now, _, task = heapq.heappop(self.at_work)
            self._end(task)
            self._start()
        assert not self.eta.loads, "all are done"
        ends = self.now + (annotated(self.after, self.clips, self.workers) if self.after else 0.0)
        return [Said(at, left_s, ends - at) for at, left_s in said]

    def _said(self, at: float) -> float | None:
        left_s = self.eta.seconds_left(self._under_way(at), self.workers, at, self.probes_s)
        if left_s is None or self.after is None:
            return left_s
        return left_s + self.after.seconds(self.clips + self.eta.clips_left(self.clips))

    def _start(self) -> None:
        for stage in STAGES:
            while self.waiting[stage] and len(self.at_work) < self.workers:
                task = self.waiting[stage].popleft()
                if stage == "scan" and (parts := self.films[task.film].parts) > 1:
                    self.open[task.film], self.scan_began[task.film] = parts, self.now
                    self.loads[task.film].parts = float(min(parts, self.workers))
                    self.waiting["part"] += [Task("part", task.film, 1 / parts)] * parts
                    return self._start()
                ends = self.now + self.slow(self.now) * self._seconds(task)
                begun = Task(stage, task.film, task.share, self.now)
                heapq.heappush(self.at_work, (ends, next(self.numbers), begun))
        return None

    def _seconds(self, task: Task) -> float:
        film = self.films[task.film]
        if task.stage == "probe":
            return PROBE_S
        per_megapixel = CUT_S if task.stage == "cut" else SCAN_S * film.dear
        return FILE_S + per_megapixel * film.megapixels * task.share

    def _under_way(self, at: float) -> Iterator[UnderWay]:
        for _, _, task in self.at_work:
            if task.stage in ("scan", "cut"):
                yield UnderWay((self.loads[task.film],), at - task.began, task.share if task.stage == "cut" else 0.0)
        for film, began in self.scan_began.items():
            yield UnderWay((self.loads[film],), at - began)

    def _end(self, task: Task) -> None:
        number, seconds = task.film, self.now - task.began
        if task.stage == "probe":
            self.probes_s += seconds
            self.loads[number] = self.eta.learn(self.films[number].info, str(number))
            self.waiting["scan"].append(Task("scan", number))
        elif task.stage == "scan":
            self._end_scan(number, seconds)
        else:
            self.open[number] -= 1
            if task.stage == "cut":
                self.eta.cut(self.loads[number], task.share, seconds)
                self.clips += task.share * self.films[number].length_s / self.films[number].clip_s
            if not self.open[number] and task.stage == "cut":
                self.eta.finish(self.loads[number])
            elif not self.open[number]:
                self._end_scan(number, (self.now - self.scan_began.pop(number)) * self.loads[number].parts)

    def _end_scan(self, number: int, seconds: float) -> None:
        self.eta.scanned(self.loads[number], seconds)
        cuts = [Task("cut", number, share) for share in self.films[number].shares()]
        self.open[number] = len(cuts)
        self.waiting["cut"] += cuts


def annotated(after: AnnotatingAhead, new: float, workers: int) -> float:
    """Return the seconds that annotators take, a batch at a time, each as soon as a worker is free."""
    took = 0.0
    for level in sorted({work.level for work in after.works}):
        works = [work for work in after.works if work.level == level]
        free, ends = [0.0] * workers, [0.0]
        for work in (work for work in works if work.kind != SET):
            own = [0.0] * int(work.workers) if not work.cpus else free  # some wait for servers, and need no core
            ends += [_last_end(own, batch) for batch in _batches(work, new)]
        took += max(ends) + sum(sum(_batches(work, new)) for work in works if work.kind == SET)
    return took


def _last_end(free: list[float], seconds: float) -> float:
    """Give a batch to the worker that is free first; return when it ends. free: a heap of times."""
    ends = heapq.heappop(free) + seconds
    heapq.heappush(free, ends)
    return ends


def _batches(work: Ahead, new: float) -> list[float]:
    """Return the seconds of an annotator's batches."""
    clips, each_s = round(work.clips(new)), work.each_s or 0.0
    return [each_s * min(ANNOTATED_CLIPS, clips - at) for at in range(0, clips, ANNOTATED_CLIPS)]
