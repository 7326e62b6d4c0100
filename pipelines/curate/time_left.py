"""The time that is left of a run of curation: `Eta`, told of sources and of the tasks that are at them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from reelwright.curation.ingest.inputs import Input
from reelwright.pipelines.annotate.time_ahead import AnnotatingAhead
from reelwright.pipelines.curate.sources import Source
from reelwright.pipelines.curate.workers.results import Scanned
from reelwright.pipelines.curate.workers.whole_sources import ScanJob
from reelwright.pipelines.runtime.eta import Eta, UnderWay
from reelwright.pipelines.runtime.flow import Flow

MOST_SIZED = 2000  # files whose sizes are asked for; among more, one film is little


class TimeLeft(Eta):
    """The time that a run of curation will yet take."""

    def __init__(self, todo: Sequence[Input], flow: Flow) -> None:
        """Know nothing yet.

        Args:
            todo: the sources.
            flow: the run's tasks.
        """
        super().__init__(len(todo), _sizes(todo))
        self.flow = flow
        self.after: AnnotatingAhead | None = None
        """What the same run does once all clips are cut."""

    @property
    def workers(self) -> float:
        """Tasks that the cluster has the cores for."""
        return min(self.flow.at_once("scan"), self.flow.at_once("cut"))

    def begin_scan(self, source: Source, job: ScanJob) -> None:
        """Note that a source is to be scanned, a long one by several workers."""
        duration_s = (source.probed.info or {}).get("duration_s") or 0.0
        source.load.parts = max(1.0, min(self.workers, duration_s / job.part_s)) if job.part_s else 1.0

    def end_scan(self, source: Source, found: Scanned) -> None:
        """Note that a source is scanned."""
        self.scanned(source.load, found.seconds * min(found.parts, self.workers))

    def now(self, elapsed_s: float) -> float | None:
        """Return the seconds that are left; None while too little is done to say. elapsed_s: since the run began."""
        other_s = sum(self.flow.stages[stage].seconds for stage in ("probe", "write"))
        return self.seconds_left(self._under_way(), self.workers, elapsed_s, other_s)

    def facts(self, elapsed_s: float, clips: int) -> dict[str, Any]:
        """Return what a user is told of the time left: `progress.left_in_words` says it.

        Args:
            elapsed_s: since the run began.
            clips: that are cut.
        """
        left_s = self.now(elapsed_s)
        if left_s is None or self.after is None:
            return {"eta_s": left_s}
        new = clips + self.clips_left(clips)
        annotate_s = self.after.seconds(new)
        return {
            "eta_s": left_s + annotate_s, "eta_annotate_s": annotate_s, "eta_without": self.after.left_out(new)
        }  # fmt: skip

    def _under_way(self) -> Iterator[UnderWay]:
        for stage, contexts, seconds in self.flow.under_way():
            if stage == "scan":
                yield UnderWay(tuple(source.load for source in contexts), seconds)
            elif stage == "cut":
                ((source, batch),) = contexts
                yield UnderWay((source.load,), seconds, len(batch) / source.planned)


def _sizes(inputs: Sequence[Input]) -> dict[str, int]:
    """Return the bytes of files by uri; of none where they are many, or one of them is not on a disk."""
    if len(inputs) > MOST_SIZED:
        return {}
    try:
        return {item.uri: os.path.getsize(item.uri) for item in inputs if not item.refused}
    except OSError:
        return {}
