"""One level of annotators over the clips that some of them have to do: batches out, results into the store."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import pyarrow as pa

from reelwright.annotate import Annotator, schema_of
from reelwright.annotate.contract import reads_video
from reelwright.curation.records.attempts import Attempts
from reelwright.curation.records.rows import failure_row
from reelwright.curation.results import Failed
from reelwright.curation.store.failures import Resolver
from reelwright.curation.store.journal import Journal
from reelwright.pipelines.annotate.batches import Batch, batches_of
from reelwright.pipelines.annotate.context import AnnotationRun
from reelwright.pipelines.annotate.lanes import ActorLane, Lane, Outcome, TaskLane, placement
from reelwright.pipelines.annotate.load import producers_of
from reelwright.pipelines.annotate.staleness import Staleness
from reelwright.pipelines.annotate.stretch import STALE

HELD_CLIPS = 4096  # results in this process before they are committed
POLL_S = 0.2


class Level:
    """One pass over the clips that some annotator of a level has to do."""

    def __init__(self, run: AnnotationRun, annotators: Mapping[str, Annotator], staleness: Staleness) -> None:
        self.shared, self.store, self.recipe = run, run.store, run.recipe
        self.report, self.progress, self.spending = run.report, run.progress, run.spending
        self.annotators, self.staleness = annotators, staleness
        self.stopped: set[str] = set()  # annotators that are handed no more clips
        self.total = sum(staleness.count(name, STALE) for name in annotators)
        self.finished = 0
        self.found: dict[tuple[str, ...], list[dict[str, Any]]] = {}  # rows to commit, by the annotators that ran
        self.journal = Journal(run.store)
        self.resolver = Resolver(run.store, list(annotators))
        self.failures: list[dict[str, Any]] = []
        self.committed_at = time.monotonic()

    def run(self) -> None:
        """Annotate until every clip of the level is done, failed or left; results are kept, whatever ends the level."""
        with ExitStack() as stack:
            stack.callback(self._commit, last=True)
            stack.callback(self._count_left)
            lanes = list(self._lanes())
            self.shared.time_left()  # it looks at the clips, before any is done
            self.progress.details = lambda _: self._details(lanes)
            for lane in lanes:
                stack.callback(lane.close)
            while lanes:
                for lane in list(lanes):
                    for outcome in lane.next_done(POLL_S / len(lanes)):
                        self._collect(lane, outcome)
                    if not lane:  # gives its actors' CPUs and GPUs to the annotators that wait for them
                        lane.close()
                        lanes.remove(lane)
                if self._is_due():
                    self._commit()
                self.progress.show(self.finished, self.total, failures=sum(self.report.failed.values()))

    def _lanes(self) -> Iterator[Lane]:
        stale = {n: a for n, a in self.annotators.items() if self.staleness.count(n, STALE) and not self._is_refused(n)}
        own = {n: a for n, a in stale.items() if a.resources.own_process}
        producers = producers_of(self.store)
        for looks in (True, False):
            some = {n: a for n, a in stale.items() if n not in own and reads_video(a) == looks}
            if some:
                batches = self._batches(some, self.recipe.batches.annotate_clips * (1 if looks else 16))
                yield TaskLane(batches, self.shared, producers, some, looks=looks)
        for name, annotator in own.items():
            need, size = placement(annotator, self.recipe)
            one = annotator.per_process(size)
            batches = self._batches({name: one}, one.resources.batch, one.resources.calls + 1)
            yield ActorLane(batches, one, self.shared, producers, need, size)

    def _batches(self, annotators: Mapping[str, Annotator], clips: int, at_once: int = 1) -> Iterator[Batch]:
        """at_once: batches that a process holds together."""
        frame_bytes = (self.recipe.limits.memory_mib << 20) // at_once
        return batches_of(self.store, self.staleness, annotators, clips=clips, frame_bytes=frame_bytes)

    def _collect(self, lane: Lane, outcome: Outcome) -> None:
        self.report.clips.add(outcome.batch.row_ids[list(outcome.clips)])
        for index, result in zip(outcome.clips, outcome.results, strict=True):
            clip_id = outcome.batch.clip_ids[index]
            computed = tuple(n for n in outcome.batch.names if f"{n}_fingerprint" in result.columns)
            if computed:
                self.found.setdefault(computed, []).append({"clip_id": clip_id, **result.columns})
            self.resolver.works(computed, clip_id)
            self.report.done.update(computed)
            self.report.seconds.update(result.seconds)
            for failed in result.failures:
                if failed.postponed:
                    self._postpone(lane, failed)
                else:
                    self._fail(outcome.batch, index, failed)
            self.finished += len(outcome.batch.names)
            self.spending.add(result.usage)
            if result.took:
                self.shared.count(outcome.batch.names[0], result.took)
        for name in outcome.batch.names:
            if self._is_refused(name):
                lane.stop(name)

    def _is_refused(self, name: str) -> bool:
        """Return whether a limit on cost forbids further calls."""
        why = self.spending.refusal(name)
        if why:
            self.stopped.add(name)
            self.report.why_postponed.setdefault(name, why)
        return bool(why)

    def _postpone(self, lane: Lane, why: Failed) -> None:
        self.stopped.add(why.stage)
        self.report.why_postponed.setdefault(why.stage, why.message)
        lane.stop(why.stage)

    def _count_left(self) -> None:
        """Clips that are left for another run."""
        for name in self.stopped:
            left = self.staleness.count(name, STALE) - self.report.done[name] - self.report.failed[name]
            if left > 0:
                self.report.postponed[name] = left
            else:
                del self.report.why_postponed[name]

    def _fail(self, batch: Batch, index: int, why: Failed) -> None:
        """Note in `failures` why a clip has no values: it failed, or has nothing to measure."""
        if why.is_unmeasurable:
            self.report.unmeasured[why.stage] += 1
            self.report.why_unmeasured.setdefault(why.stage, why.message)
        else:
            self.report.failed[why.stage] += 1
        fingerprint = batch.expected[why.stage][index]
        clip_id, md5 = batch.clip_ids[index], batch.source_md5s[index]
        uri = self._uris.get(md5, "")
        attempts = self._attempts.of(uri, why.stage, clip_id) + 1
        row = failure_row(uri, md5, clip_id, why, attempts, fingerprint)
        self.failures.append(row | {"at": datetime.now(UTC)})

    @cached_property
    def _attempts(self) -> Attempts:
        return Attempts(self.store)

    @cached_property
    def _uris(self) -> dict[str, str]:
        """Source md5 -> uri; read where something fails."""
        rows = self.store.read("sources", ["md5", "uri"], filter="state = 'ok'").to_pylist()
        return {r["md5"]: r["uri"] for r in rows}

    def _is_due(self) -> bool:
        """Enough rows, or enough time: slow annotators must not lose hours to a crash."""
        late = time.monotonic() - self.committed_at >= self.recipe.batches.commit_s
        return late or sum(map(len, self.found.values())) >= HELD_CLIPS

    def _commit(self, *, last: bool = False) -> None:
        """last: the next level reads `clips`, so the journal's results go there too."""
        self.committed_at = time.monotonic()
        self.resolver.commit()
        for names, rows in self.found.items():
            self.journal.add(" ".join(names), pa.Table.from_pylist(rows, self._schema(names)), merge=last)
        self.found.clear()
        if last:
            self.journal.merge()
        if self.failures:
            self.store.append("failures", self.failures)
            self.failures = []
        self.shared.count_store()

    def _schema(self, names: Sequence[str]) -> pa.Schema:
        fields = [f for name in names for f in schema_of(self.annotators[name])]
        return pa.schema([pa.field("clip_id", pa.string()), *fields])

    def _details(self, lanes: Sequence[Lane]) -> dict[str, Any]:
        """Return what `reel status` shows beside the counts: what tasks took in all levels, and what waits in lanes."""
        waiting = [lane.figures() for lane in lanes]
        return {
            "stages": {
                name: stage.to_json()
                | {of: sum(w[name][of] for w in waiting if name in w) for of in ("queued", "in_flight")}
                for name, stage in self.report.stages.items()
            }
        } | self.shared.time_left()
