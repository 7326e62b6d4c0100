"""The time that annotators will take once a curation has cut its clips, by what a clip of each takes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

TASKS, ACTORS, SET = "tasks", "actors", "set"
ENOUGH = 10
"""Clips that an annotator has done in this run, before its time is reckoned by them alone."""


@dataclass(frozen=True)
class Ahead:
    """What an annotator has yet to do.

    Args:
        name: of the annotator.
        level: its number; a level begins once the one before has ended.
        kind: TASKS take turns with those of others, ACTORS are its own, a SET has one worker once its level is done.
        each_s: seconds of a worker per clip; None: not known.
        stored: clips of the store that it has to do.
        takes_new: whether it has to do the clips that are yet to be cut; others are annotated while they are cut.
        again: clips of the store that it does again once one is new.
        workers: clips that it computes at once, of ACTORS.
        cpus: cores for each of them.
        gpus: likewise.
    """

    name: str
    level: int
    kind: str
    each_s: float | None
    stored: int = 0
    takes_new: bool = True
    again: int = 0
    workers: float = 1.0
    cpus: float = 1.0
    gpus: float = 0.0

    def clips(self, new: float) -> float:
        """Return how many clips it has to do. new: clips that the curation cuts."""
        return (max(self.again, self.stored) + new) if self.takes_new and new else self.stored


@dataclass(frozen=True)
class AnnotatingAhead:
    """All that is annotated once the clips are cut.

    Args:
        works: by annotator.
        cpus: of the cluster.
        gpus: likewise.
        not_looked_at: clips of the store of which it is not known whether they are stale.
    """

    works: Sequence[Ahead]
    cpus: float
    gpus: float = 0.0
    not_looked_at: int = 0

    def seconds(self, new: float) -> float:
        """Return the seconds that it takes, if a clip takes what it took so far. new: clips that the curation cuts."""
        levels = {work.level for work in self.works}
        return sum(self._level_s([work for work in self.works if work.level == level], new) for level in levels)

    def left_out(self, new: float) -> list[str]:
        """Return, for a reader, what `seconds` leaves out. new: as there."""
        unknown = [work.name for work in self.works if work.each_s is None and work.clips(new)]
        return unknown + ([f"{self.not_looked_at:,} stored clips"] if self.not_looked_at else [])

    def left(
        self, done: Mapping[str, int], seconds: Mapping[str, float], stopped: Collection[str] = ()
    ) -> AnnotatingAhead:
        """Return what is left of it.

        Args:
            done: clips by annotator.
            seconds: of workers, that these took.
            stopped: annotators that are handed no more clips.
        """

        def of(work: Ahead) -> Ahead:
            clips = done.get(work.name, 0)
            each_s = seconds[work.name] / clips if clips >= ENOUGH and work.name in seconds else work.each_s
            return replace(work, stored=0 if work.name in stopped else max(0, work.stored - clips), each_s=each_s)

        return replace(self, works=[of(work) for work in self.works])

    def _level_s(self, works: Sequence[Ahead], new: float) -> float:
        """No annotator is done before its own workers are, and all of them share the machines."""
        took = {work.name: work.clips(new) * (work.each_s or 0.0) for work in works}
        own = [took[work.name] / work.workers for work in works if work.kind == ACTORS]
        beside = [work for work in works if work.kind != SET]
        of_cpus = sum(took[work.name] * work.cpus for work in beside) / max(1.0, self.cpus)
        of_gpus = sum(took[work.name] * work.gpus for work in beside) / max(1.0, self.gpus)
        return max([of_cpus, of_gpus, *own]) + sum(took[work.name] for work in works if work.kind == SET)
