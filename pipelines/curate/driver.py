"""The driver of a curation: decides which source is next, and turns results into rows."""

import time
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any

from reelwright.curation.clips import clip_fingerprint, with_spans
from reelwright.curation.credentials import use
from reelwright.curation.dedup import Deduplicator
from reelwright.curation.ingest.inputs import Inputs
from reelwright.curation.records.committer import Committer
from reelwright.curation.records.history import History
from reelwright.curation.records.rows import failure_row, source_row
from reelwright.curation.records.runs import recorded_run
from reelwright.curation.results import Failed, Probed
from reelwright.curation.store import Store, StoreError
from reelwright.curation.usage import take_requests
from reelwright.pipelines.curate.copies import Copies
from reelwright.pipelines.curate.probing import Probing
from reelwright.pipelines.curate.sources import Source, Summary
from reelwright.pipelines.curate.time_left import TimeLeft
from reelwright.pipelines.curate.work import BATCHED, scan_job, settings_of, stages_of
from reelwright.pipelines.curate.workers.results import Cut, MediaWritten, Scanned
from reelwright.pipelines.curate.workers.tasks import CutJob
from reelwright.pipelines.recipes.curation import CurateRecipe
from reelwright.pipelines.runtime.flow import RUN_AHEAD, Done, Flow
from reelwright.pipelines.runtime.meter import StoreMeter
from reelwright.pipelines.runtime.progress import Progress

OTHER_BYTES = "a duplicate by its source_id alone: its bytes are others"
SPOILT = "io: a file of the same bytes changed while it was read; the next run tries this one again"
COMMITTED = ("ok", "duplicate", "failed", "clips")  # a stopped run counts its commits in these
RECORDED = ("inputs", "ok", "duplicate", "failed", "done_before", "clips", "clips_failed")  # counts in `runs`
FRAMES = ("frames_in_shots", "frames_in_transitions", "frames_dropped")


class Curation:
    """One run over `inputs` into `store`. Call `run` once. light: annotators that share the decode of a cut clip.

    stages: as `stages_of` gives them, which is the default. asked: counts this process's requests to the store.
    """

    def __init__(
        self,
        store: Store,
        recipe: CurateRecipe,
        inputs: Inputs,
        history: History,
        light: Collection[str],
        stages: Mapping[str, Any] | None = None,
        asked: StoreMeter | None = None,
    ) -> None:
        self.store, self.recipe, self.inputs, self.history = store, recipe, inputs, history
        self.waiting: dict[str, list[Source]] = {}  # by uri of a source that may yet fail: its duplicates
        self.awaited: dict[str, list[Source]] = {uri: [] for uri in history.touched}  # by it: those with its old bytes
        self.spoilt: dict[str, Failed] = {}  # by MD5: files that changed while they were cut
        self.copies = Copies(recipe.limits, history.todo)
        self.limits = recipe.limits.model_dump() | {"inputs": self.copies.fields}
        self.settings = settings_of(recipe, light, self.limits).model_dump_json()
        self.fingerprint, self.cutting = clip_fingerprint(recipe.encode), recipe.cutting_fingerprint
        self.fingerprint_of = cache(recipe.fingerprint_of)
        self.state = Counter[str]()
        self.no_clip, self.same_id = Counter[str](), Counter[str]()
        self.unmeasured, self.why_unmeasured = Counter[str](), dict[str, str]()
        self.stage_seconds: defaultdict[str, float] = defaultdict(float)
        self.clip_bytes = 0
        self.disk_bytes = 0  # of local inputs that were probed
        self.flow = Flow(
            stages or stages_of(recipe),
            attempts=recipe.limits.attempts,
            prepare=partial(use, recipe.credentials),
            batched=BATCHED,
        )
        self.probing = Probing(history.todo, self.flow, self.limits, recipe.images)
        self.time_left, self.asked = TimeLeft(history.todo, self.flow), asked or StoreMeter(store)
        self.committer = Committer(
            store, self._write, history.replaced, history.recut_md5s,
            commit_bytes=recipe.batches.commit_mib << 20, commit_s=recipe.batches.commit_s,
        )  # fmt: skip
        self.dedup = Deduplicator(self.history.by_md5, self.history.by_source_id)

    def run(self, progress: Progress) -> Summary:
        """Process everything that is not done; returns when all of it is in the store."""
        clock = time.monotonic()
        progress.details = self._details
        self.history.clear_leftovers()
        with recorded_run(self.store, "curate", self.recipe.to_yaml()) as run:
            progress.tell = run.tell
            try:
                self._process(progress)
                self.history.drop_unused_leftovers()
                self.history.note_finished()
            except BaseException:
                self.flow.forget()
                self.state.update({n: self.committer.committed[n] - self.state[n] for n in COMMITTED})
                raise
            finally:
                self.copies.clear()
                self._count_requests()
                summary = self._summary(time.monotonic() - clock)
                run.counts = {name: getattr(summary, name) for name in RECORDED}
                run.stage_seconds = summary.stage_seconds
                run.stage_bytes = {"clips": summary.clip_bytes, "inputs": self.disk_bytes}
                run.stages = summary.stages | {"store": self.asked.end()}
        return summary

    def _process(self, progress: Progress) -> None:
        while self.flow or self.probing or self.committer.is_holding:
            self.probing.start()
            for done in self.flow.next_done():
                self._advance(done)
            for source in self.probing.in_order():
                self._begin(source)
            self.committer.flush_if_due()
            if not self.flow and not self.probing:  # nothing more will come
                self.committer.flush()
            self._show(progress)
        self.committer.flush()
        self.history.drop_clips_of(self.spoilt)
        self.history.moves.commit(self.store)

    # --- one source, stage by stage ------------------------------------------------------------------------------

    def _begin(self, source: Source) -> None:
        """Every source before this one is known: duplicate, failed, or to be scanned."""
        followers = self.awaited.pop(source.item.uri, [])
        self._decide(source)
        for one in followers:
            self._begin(one)

    def _decide(self, source: Source) -> None:
        md5 = source.probed.md5
        touched = self.history.touched.get(source.item.uri)
        if touched and md5 == touched["md5"]:  # only its time changed
            self.history.note_done(touched)
            self._unchanged(source)
            self.committer.add_time(source.item.uri, source.probed.mtime_ns or 0)
            return
        if restored := self.history.restored(source.item.uri, md5):
            self.history.note_done(restored)
            self._unchanged(source)
            self.history.replaced.add(source.item.uri)
            self.history.moves.vacated.discard((source.item.uri, md5))
            self.committer.add_source(restored | {"mtime_ns": source.probed.mtime_ns})
            return
        if touched and md5:
            self.history.moves.vacated.add((source.item.uri, touched["md5"]))
        if (at := self.history.moves.address_of(md5)) in self.awaited:  # it may have left that place, or not
            self.awaited[at].append(source)
            return
        source.move = self.history.moves.recut.get(source.item.uri)
        if not source.probed.failed and not source.move:
            source.move = self.history.take_over(source.item, source.probed)
            if source.move and not source.move.is_recut:
                self._unchanged(source)
                return
        survivor = self._survivor(source)
        if survivor in self.waiting:
            self.waiting[survivor].append(source)
        elif survivor is not None:
            self._finish(source, "duplicate", duplicate_of=survivor)
        elif source.probed.failed:
            self._fail(source, source.probed.failed)
        elif md5 in self.spoilt:  # clips of these bytes go when the run ends, and would take this one's with them
            self._fail(source, replace(self.spoilt[md5], message=SPOILT))
        else:
            self.waiting[source.item.uri] = []
            self._scan(source, source.load.work)

    def _scan(self, source: Source, weight: float) -> None:
        is_idle = self.flow.waiting("scan") < self.flow.slots() // RUN_AHEAD  # else films keep all cores busy whole
        split_s = self.recipe.resources.scan_split_s if is_idle else 0.0
        job = scan_job(source, self.history.left_of(source.md5), split_s)
        self.time_left.begin_scan(source, job)
        self.flow.add("scan", source, job, self.settings, node=source.probed.node, weight=weight)

    def _survivor(self, source: Source) -> str | None:
        """Return the uri that a source duplicates. A file that cannot be opened has no duplicates by bytes or id."""
        uri, md5 = source.item.uri, source.probed.md5
        known = self.dedup.by_md5.get(md5) if md5 else None
        if not source.probed.failed:
            source.note = None if known else OTHER_BYTES
            return self.dedup.survivor_of(uri, source.md5, self.history.id_of(source.item))
        return known if known != uri else None

    def _advance(self, done: Done) -> None:
        match done.value:
            case Failed() as failed:
                self._failed(done, failed)
            case Probed() as probed:
                self._probed(done.context, probed)
            case Scanned() as scanned:
                self._scanned(done.context, scanned, done.extra)
            case Cut() as cut:
                self._cut(done.context[0], cut, done.extra)
            case MediaWritten() as written:
                self.committer.written(done.context, written.fragments)
            case other:
                raise TypeError(f"stage '{done.stage}' handed back a {type(other).__name__}")

    def _failed(self, done: Done, failed: Failed) -> None:
        """Record the failure of a stage, or of a worker that was lost for good."""
        match done.stage:
            case "probe":
                self._probed(done.context, Probed(failed=failed))
            case "scan" if done.is_lost and not done.context.apart:  # by the scan, or by the cut in the same task
                done.context.apart = True
                self._scan(done.context, 0.0)
            case "scan":
                self._fail(done.context, failed)
            case "cut":
                source, batch = done.context
                self._cut(source, Cut([], {clip.clip_id: failed for clip in batch}, 0.0), None)
            case _:
                raise StoreError(f"clips could not be written: {failed.message}")

    def _probed(self, source: Source, probed: Probed) -> None:
        self.stage_seconds["probe"] += probed.seconds
        self.disk_bytes += probed.status[0] if probed.status else 0
        source.probed = probed
        source.load = self.time_left.learn(probed.info, source.item.uri)
        self.probing.add(source)

    def _scanned(self, source: Source, found: Scanned, payload: Any) -> None:
        """payload: reference to the bytes of clips that the same task cut, with those of other sources."""
        self.stage_seconds["scan"] += found.seconds
        self.state.update({name: found.columns[name] for name in FRAMES})
        source.scanned, source.planned = replace(found, batches=(), cut=None), len(found.clip_ids)
        self.time_left.end_scan(source, found)
        self.history.reuse(source.md5, found.clip_ids, self.fingerprint)
        source.cutting = len(found.batches)
        for batch in found.batches:
            job = CutJob(source.item.uri, source.md5, batch, found.rate, source.probed.status)
            self.flow.add("cut", (source, batch), job, self.settings, node=source.probed.node)
        if found.cut:
            source.cutting = 1
            self._cut(source, found.cut, payload)
        elif not source.cutting:
            self._cut_all(source)

    def _cut(self, source: Source, cut: Cut, payload: Any) -> None:
        """payload: reference to the clips' bytes, in their order."""
        self.stage_seconds["cut"] += cut.seconds
        source.changed = cut.changed or source.changed
        for clip_id, failed in cut.failed.items():
            source.clips_failed += 1
            source.first_failure = source.first_failure or failed.message
            self._failure(source, failed, clip_id)
        for clip in cut.clips:
            source.clips_with_faulty_sound += clip.row["audio_note"] is not None
            for failed in clip.failures:
                if failed.postponed:  # those are stale, so the next stage asks
                    continue
                if failed.is_unmeasurable:
                    self.unmeasured[failed.stage] += 1
                    self.why_unmeasured.setdefault(failed.stage, failed.message)
                else:
                    self.state["annotations_failed"] += 1
                self._failure(source, failed, clip.row["clip_id"])
        rows, num_bytes = [clip.row for clip in cut.clips], sum(clip.num_bytes for clip in cut.clips)
        if rows:
            self.committer.add_clips(rows, payload, num_bytes)
        self.state["clips"] += len(rows)
        self.flow.metrics.add_clips(len(rows))
        if source.planned:
            self.time_left.cut(source.load, (len(rows) + len(cut.failed)) / source.planned, cut.seconds)
        self.clip_bytes += num_bytes
        source.cutting -= 1
        if not source.cutting:
            self._cut_all(source)

    def _cut_all(self, source: Source) -> None:
        """Nothing of a source is left to cut: it is ok, unless there were clips to cut and every one failed."""
        failed = source.clips_failed
        if source.changed:  # its earlier clips are of bytes that are nowhere any more
            self.spoilt[source.md5] = source.changed
            source.planned, source.clips_failed = 0, 0
            self._fail(source, source.changed)
        elif not failed or failed < source.planned:
            self._finish(source, "ok")
        else:
            what = "its one clip could not be cut" if failed == 1 else f"none of its {failed} clips could be cut"
            self._fail(source, Failed("cut", f"{source.first_failure} ({what})"))

    def _unchanged(self, source: Source) -> None:
        self.state["unchanged"] += 1
        self.time_left.finish(source.load)

    def _finish(self, source: Source, state: str, duplicate_of: str | None = None) -> None:
        self.state[state] += 1
        self.time_left.finish(source.load)
        self.state["clips_failed"] += source.clips_failed
        scanned, faulty = source.scanned, source.clips_with_faulty_sound
        found = scanned.columns if scanned else None
        row = source_row(source.item, source.probed, found, state, duplicate_of, clips_with_faulty_sound=faulty)
        row["num_clips"] = source.planned - source.clips_failed
        row["note"] = row.get("note") or (source.note if state == "duplicate" else None)
        if state == "duplicate" and source.note:
            self.same_id[source.item.source_id or ""] += 1
        if state == "ok":
            row["cutting_fingerprint"] = with_spans(self.cutting, source.item.spans)
        if state == "ok" and source.move:
            row = self.history.moves.keep(self.store, row, source.move)
        if state == "ok" and scanned and not source.planned:
            row["no_clip_reason"] = scanned.no_clip_reason
            self.no_clip[scanned.no_clip_reason or ""] += 1
        self.committer.add_source(row, scanned.shots if scanned and state == "ok" else [])
        if state == "ok":
            self._decide_duplicates(source)

    def _fail(self, source: Source, why: Failed) -> None:
        self._failure(source, why)
        if source.item.uri in self.history.recut_uris and source.scanned is None:  # its earlier clips stay
            self.state["failed"] += 1
            self.time_left.finish(source.load)
            if source.move:
                self.history.moves.forget(source.move)
            self._decide_duplicates(source)
        else:
            self._finish(source, "failed")
            self._release_duplicates(source, why)

    def _decide_duplicates(self, source: Source) -> None:
        for twin in self.waiting.pop(source.item.uri, []):
            self._finish(twin, "duplicate", duplicate_of=source.item.uri)

    def _release_duplicates(self, source: Source, why: Failed) -> None:
        """Fail the duplicates of a source in the same way, unless it could not be read.

        A file of the same id gets its turn.
        """
        twins = self.waiting.pop(source.item.uri, [])
        for one in (source, *twins):
            if one.probed.md5:
                self.dedup.forget(source.item.uri, one.md5, self.history.id_of(one.item))
        for twin in twins:
            is_same = twin.md5 == source.probed.md5
            if is_same and (source.changed or not why.is_unread):
                self._fail(twin, why)
            else:
                self._begin(twin)

    def _failure(self, source: Source, why: Failed, clip_id: str | None = None) -> None:
        attempts = self.history.attempts(source.item.uri, why.stage, clip_id) + 1
        fingerprint = self.fingerprint_of(why.stage)
        row = failure_row(source.item.uri, source.probed.md5, clip_id, why, attempts, fingerprint)
        self.committer.add_failure(row)

    # --- around it ------------------------------------------------------------------------------------------------

    def _write(self, number: int, clip_ids: list[str], payloads: list[Any]) -> None:
        self.flow.add("write", number, self.store.uri, clip_ids, *payloads)

    def _show(self, progress: Progress) -> None:
        done = sum(self.state[name] for name in ("ok", "duplicate", "failed", "unchanged"))
        progress.show(done, len(self.history.todo), clips=self.state["clips"], failed=self.state["failed"])

    def _details(self, elapsed_s: float) -> dict[str, Any]:
        """Return what `reel status` shows beside the counts."""
        self._count_requests()
        left = self.time_left.facts(elapsed_s, self.state["clips"])
        return {"stages": self.flow.figures(), "clip_bytes": self.clip_bytes} | left

    def _count_requests(self) -> None:
        """Count the requests of this process: it lists and looks for inputs, and commits to the store."""
        self.flow.count("list", take_requests())
        self.flow.metrics.add("store", self.asked.take(), 0.0)

    def _summary(self, seconds: float) -> Summary:
        before = self.history.done_before
        return Summary(
            inputs=len(self.inputs.files),
            ok=self.state["ok"] + before["ok"],
            duplicate=self.state["duplicate"] + before["duplicate"],
            failed=self.state["failed"] + before["failed"],
            done_before=sum(before.values()),
            cut_otherwise=self.history.cut_otherwise,
            moved=self.history.moves.made,
            recaptioned=len(self.history.recaptioned),
            clips=self.state["clips"],
            clips_failed=self.state["clips_failed"],
            annotations_failed=self.state["annotations_failed"],
            seconds=seconds,
            stage_seconds=dict(self.stage_seconds),
            clip_bytes=self.clip_bytes,
            stages={name: stage.to_json() for name, stage in self.flow.stages.items()},
            **{name: self.state[name] for name in FRAMES},
            no_clip=dict(self.no_clip + self.history.no_clip),
            same_id=dict(self.same_id),
            unmeasured=dict(self.unmeasured),
            why_unmeasured=dict(self.why_unmeasured),
        )
