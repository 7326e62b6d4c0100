"""`reel curate`: footage in, clips with scores in a store. The driver's side: who is next, and what becomes a row."""

import json
import time
import uuid
from collections import Counter, deque
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from reelwright.curation.clips import clip_fingerprint, clip_row, plan_clips
from reelwright.curation.dedup import Deduplicator
from reelwright.curation.ingest.inputs import Inputs
from reelwright.curation.no_clip import why_no_clip
from reelwright.curation.scan import scan_from_json
from reelwright.curation.store import Store, StoreError
from reelwright.pipelines import tasks
from reelwright.pipelines.annotation.keys import keys_of
from reelwright.pipelines.annotation.load import load_annotators, prepare_columns
from reelwright.pipelines.annotation.pinning import pin_models
from reelwright.pipelines.annotation.run import Report, annotate_and_record, is_current, runs_while_cutting
from reelwright.pipelines.cluster import cluster
from reelwright.pipelines.committer import Committer
from reelwright.pipelines.cut_batches import cut_batches
from reelwright.pipelines.flow import Done, Flow
from reelwright.pipelines.history import History
from reelwright.pipelines.progress import Progress
from reelwright.pipelines.recipe import CurateRecipe, with_spans
from reelwright.pipelines.rows import failure_row, shot_rows, source_row
from reelwright.pipelines.sources import Source, Summary
from reelwright.pipelines.versions import versions

UNREAD: dict[str, Any] = {"md5": None, "bytes": None, "info": None, "mtime_ns": None}
OTHER_BYTES = "a duplicate by its source_id alone: its bytes are others"
COMMITTED = ("ok", "duplicate", "failed", "clips")  # counts of which a run that is stopped has what it committed
PROBE_AHEAD = 256  # sources probed and not yet begun: dedup decides in order, and a slow file must not stop the rest


def run_all(
    store: Store,
    recipe: CurateRecipe,
    inputs: Inputs,
    *,
    address: str | None = None,
    retry_failed: bool = False,
    recut: bool = False,
    quiet: bool = False,
) -> tuple[Summary, Report]:
    """Curate what is new, then annotate whatever stored clip is stale.

    Ray is started only where there is something to do.
    """
    recipe = pin_models(recipe)
    annotators = load_annotators(recipe)
    prepare_columns(store, annotators)
    history = History(
        store, inputs.files, recipe.cutting_fingerprint, retry_failed=retry_failed, recut=recut,
        keep_ids=recipe.manifests.repeated_ids == "keep",
    )  # fmt: skip
    history.forget_mended_rows(inputs)
    if not history.todo and is_current(store, annotators, retry_failed=retry_failed):
        history.moves.commit(store)
        return _nothing_to_do(inputs, history), Report()
    keys_of(annotators)  # a missing one is said now, not after the cutting
    with cluster(address):
        clock = time.monotonic()
        with Progress("curate", quiet=quiet) as progress:
            light = [name for name, annotator in annotators.items() if runs_while_cutting(annotator)]
            summary = Curation(store, recipe, inputs, history, light).run(progress)
        with Progress("annotate", quiet=quiet) as progress:
            report = annotate_and_record(store, recipe, annotators, progress, retry_failed=retry_failed)
        store.merge_small_files()
        return replace(summary, seconds=time.monotonic() - clock), report


def _nothing_to_do(inputs: Inputs, history: History) -> Summary:
    before = history.done_before
    return Summary(
        inputs=len(inputs.files), ok=before["ok"], duplicate=before["duplicate"], failed=before["failed"],
        done_before=sum(before.values()), cut_otherwise=history.cut_otherwise, moved=history.moves.made,
        no_clip=dict(history.no_clip),
    )  # fmt: skip


class Curation:
    """One run over `inputs` into `store`. Call `run` once. light: annotators that share the decode of a cut clip."""

    def __init__(
        self, store: Store, recipe: CurateRecipe, inputs: Inputs, history: History, light: Collection[str]
    ) -> None:
        self.store, self.recipe, self.inputs, self.history = store, recipe, inputs, history
        self.to_probe, self.to_begin = deque(history.todo), deque(history.todo)
        self.probed: dict[str, Source] = {}  # by uri, waiting for those before them
        self.waiting: dict[str, list[Source]] = {}  # by uri of a source that may yet fail: its duplicates
        self.awaited: dict[str, list[Source]] = {uri: [] for uri in history.touched}  # by it: those with its old bytes
        self.spoilt: set[str] = set()  # MD5s of files that changed while they were cut
        self.limits = recipe.limits.model_dump()
        self.annotators = [(name, params) for name, params in recipe.annotator_params() if name in light]
        self.fingerprint = clip_fingerprint(recipe.encode)
        self.state = Counter[str]()
        self.no_clip, self.same_id = Counter[str](), Counter[str]()
        self.stage_seconds: Counter[str] = Counter()
        self.clip_bytes = 0
        self.flow = Flow(
            {
                "probe": (tasks.probe, recipe.resources.probe, 1),
                "scan": (tasks.scan, recipe.resources.scan, 1),
                "cut": (tasks.cut, recipe.resources.cut, 2),
                "write": (tasks.write_media, recipe.resources.write, 1),
            },
            attempts=recipe.limits.attempts,
        )
        self.committer = Committer(store, recipe.batches, self._write, self.history.replaced, self.history.recut_md5s)
        self.dedup = Deduplicator(self.history.by_md5, self.history.by_source_id)

    def run(self, progress: Progress) -> Summary:
        """Process everything that is not done; returns when all of it is in the store."""
        began, run_id = datetime.now(UTC), uuid.uuid4().hex[:12]
        clock = time.monotonic()
        self.history.clear_leftovers()
        ended = "interrupted"
        try:
            self._process(progress)
            self.history.drop_unused_leftovers()
            ended = "finished"
        finally:
            if ended == "interrupted":
                self.flow.forget()
                self.state.update({n: self.committer.committed[n] - self.state[n] for n in COMMITTED})
            summary = self._summary(time.monotonic() - clock)
            self._record(run_id, began, ended, summary)
        return summary

    def _process(self, progress: Progress) -> None:
        while self.flow or self.to_begin or self.committer.is_holding:
            self._start_probes()
            for done in self.flow.next_done():
                self._advance(done)
            self._begin_in_order()
            self.committer.flush_if_due()
            if not self.flow and not self.to_begin:  # nothing more will come
                self.committer.flush()
            self._show(progress)
        self.committer.flush()
        self.history.drop_clips_of(self.spoilt)
        self.history.moves.commit(self.store)

    def _start_probes(self) -> None:
        """Probe ahead, but not so far that sources pile up before the scan."""
        slots = self.flow.slots()
        while (
            self.to_probe
            and len(self.probed) + self.flow.waiting("probe") < PROBE_AHEAD
            and self.flow.waiting("probe") < slots
            and self.flow.waiting("scan") < slots
        ):
            item = self.to_probe.popleft()
            if item.refused:  # a manifest's row that names no file
                why = {"stage": "ingest", "message": f"manifest: {item.refused}", "detail": ""}
                self.probed[item.uri] = Source(item, UNREAD | {"failure": why})
            else:
                self.flow.add("probe", Source(item), item.uri, self.limits)

    def _begin_in_order(self) -> None:
        """Sources are probed in any order and begun in order of uri: so who survives does not depend on who was read
        first."""
        while self.to_begin and self.to_begin[0].uri in self.probed:
            self._begin(self.probed.pop(self.to_begin.popleft().uri))

    # --- one source, stage by stage ------------------------------------------------------------------------------

    def _probed(self, done: Done) -> dict[str, Any]:
        facts = UNREAD | done.value
        self.stage_seconds["probe"] += facts.pop("seconds", 0)
        return facts

    def _begin(self, source: Source) -> None:
        """Every source before this one is known: duplicate, failed, or to be scanned."""
        followers = self.awaited.pop(source.item.uri, [])
        self._decide(source)
        for one in followers:
            self._begin(one)

    def _decide(self, source: Source) -> None:
        md5 = source.facts["md5"]
        touched = self.history.touched.get(source.item.uri)
        if touched and md5 == touched["md5"]:  # only its time changed
            self.history.note_done(touched)
            self.state["unchanged"] += 1
            self.committer.add_time(source.item.uri, source.facts["mtime_ns"])
            return
        if restored := self.history.restored(source.item.uri, md5):
            self.history.note_done(restored)
            self.state["unchanged"] += 1
            self.history.replaced.add(source.item.uri)
            self.history.moves.vacated.discard((source.item.uri, md5))
            self.committer.add_source(restored | {"mtime_ns": source.facts["mtime_ns"]})
            return
        if touched and md5:
            self.history.moves.vacated.add((source.item.uri, touched["md5"]))
        if (at := self.history.moves.address_of(md5)) in self.awaited:  # it may have left that place, or not
            self.awaited[at].append(source)
            return
        source.move = self.history.moves.recut.get(source.item.uri)
        if "failure" not in source.facts and not source.move:
            source.move = self.history.take_over(source.item, source.facts)
            if source.move and not source.move.is_recut:
                self.state["unchanged"] += 1
                return
        survivor = self._survivor(source)
        if survivor in self.waiting:
            self.waiting[survivor].append(source)
        elif survivor is not None:
            self._finish(source, "duplicate", duplicate_of=survivor)
        elif "failure" in source.facts:
            self._fail(source, source.facts["failure"])
        else:
            self.waiting[source.item.uri] = []
            shots, borders = self.recipe.shots.model_dump(), self.recipe.borders.model_dump()
            self.flow.add("scan", source, source.item.uri, shots, borders, self.limits, source.status)

    def _survivor(self, source: Source) -> str | None:
        """Uri of what a source is a duplicate of. One that cannot be opened stands in for none of its bytes or id."""
        uri, md5 = source.item.uri, source.facts["md5"]
        known = self.dedup.by_md5.get(md5)
        if "failure" not in source.facts:
            source.note = None if known else OTHER_BYTES
            return self.dedup.survivor_of(uri, md5, self.history.id_of(source.item))
        return known if known != uri else None

    def _advance(self, done: Done) -> None:
        if done.stage == "probe":
            done.context.facts = self._probed(done)
            self.probed[done.context.item.uri] = done.context
            return
        if done.stage == "write":
            if isinstance(done.value, dict):
                raise StoreError(f"clips could not be written: {done.value['failure']['message']}")
            self.committer.written(done.context, done.value)
            return
        self.stage_seconds[done.stage] += done.value.get("seconds", 0)
        if done.stage == "scan":
            self._scanned(done.context, done.value)
        else:
            self._cut(done)

    def _scanned(self, source: Source, value: dict[str, Any]) -> None:
        if "failure" in value:
            self._fail(source, value["failure"])
            return
        scan = scan_from_json(value["scan"], value["pts"])
        if scan.frames_lost:
            counts = f"{scan.frames_lost} of {scan.timing.num_frames} frames are in no shot and no transition"
            self._fail(source, {"stage": "scan", "message": f"bug: {counts}; please report it", "detail": ""})
            return
        source.scan = scan
        self.state["frames_in_shots"] += scan.frames_in_shots
        self.state["frames_in_transitions"] += scan.frames_in_transitions
        self.state["frames_dropped"] += scan.frames_dropped
        source.planned = plan_clips(source.md5, source.scan, self.recipe.clips, source.item.spans)
        there = self.history.reuse(source.md5, {c.clip_id for c in source.planned}, self.fingerprint)
        missing = [c for c in source.planned if c.clip_id not in there]
        rate = source.scan.timing.rate
        for batch in cut_batches(missing, source.scan, self.recipe.batches):
            source.cutting += 1
            args = (source.item.uri, batch, str(rate) if rate else None, self.recipe.encode.model_dump())
            self.flow.add("cut", (source, batch), *args, self.annotators, self.limits, source.status)
        if not source.cutting:
            self._cut_all(source)

    def _cut(self, done: Done) -> None:
        source, batch = done.context
        if changed := done.value.get("changed"):
            source.changed, batch = changed, []
            done.value["clips"] = []
        results = done.value.get("clips") or [{"error": done.value["failure"]} for _ in batch]
        rows, num_bytes = [], 0
        for planned, result in zip(batch, results, strict=True):
            if "error" in result:
                source.clips_failed += 1
                source.first_failure = source.first_failure or result["error"]["message"]
                self._failure(source, result["error"], planned.clip_id)
                continue
            row = clip_row(planned, source.md5, result["encoded"], self.fingerprint)
            rows.append(row | result["columns"])
            source.clips_with_faulty_sound += row["audio_note"] is not None
            num_bytes += result["encoded"]["bytes"]
            for failed in (f for f in result["failures"] if not f.get("postponed")):  # stale, so the next stage asks
                self.state["annotations_failed"] += 1
                self._failure(source, failed, planned.clip_id)
        if rows:
            self.committer.add_clips(rows, done.extra, num_bytes)
        self.state["clips"] += len(rows)
        self.clip_bytes += num_bytes
        source.cutting -= 1
        if not source.cutting:
            self._cut_all(source)

    def _cut_all(self, source: Source) -> None:
        """Nothing of a source is left to cut: it is ok, unless there were clips to cut and every one failed."""
        failed = source.clips_failed
        if source.changed:  # what was cut of it before is of bytes that are nowhere any more
            self.spoilt.add(source.md5)
            source.planned, source.clips_failed = [], 0
            self._fail(source, source.changed)
        elif not failed or failed < len(source.planned):
            self._finish(source, "ok")
        else:
            what = "its one clip could not be cut" if failed == 1 else f"none of its {failed} clips could be cut"
            self._fail(source, {"stage": "cut", "message": f"{source.first_failure} ({what})", "detail": ""})

    def _finish(self, source: Source, state: str, duplicate_of: str | None = None) -> None:
        self.state[state] += 1
        self.state["clips_failed"] += source.clips_failed
        faulty = source.clips_with_faulty_sound
        row = source_row(source.item, source.facts, source.scan, state, duplicate_of, clips_with_faulty_sound=faulty)
        row["num_clips"] = len(source.planned) - source.clips_failed
        row["note"] = row.get("note") or (source.note if state == "duplicate" else None)
        if state == "duplicate" and source.note:
            self.same_id[source.item.source_id or ""] += 1
        if state == "ok":
            row["cutting_fingerprint"] = with_spans(self.recipe.cutting_fingerprint, source.item.spans)
        if state == "ok" and source.move:
            row = self.history.moves.keep(self.store, row, source.move)
        if state == "ok" and source.scan and not source.planned:
            row["no_clip_reason"] = why_no_clip(source.scan, self.recipe.clips, source.item.spans)
            self.no_clip[row["no_clip_reason"]] += 1
        shots = shot_rows(source.md5, source.scan, self.recipe.shots.detector) if source.scan and state == "ok" else []
        self.committer.add_source(row, shots)
        if state == "ok":
            self._decide_duplicates(source)

    def _fail(self, source: Source, why: dict[str, str]) -> None:
        self._failure(source, why)
        if source.item.uri in self.history.recut_uris and source.scan is None:  # what was cut of it before stays
            self.state["failed"] += 1
            if source.move:
                self.history.moves.forget(source.move)
            self._decide_duplicates(source)
        else:
            self._finish(source, "failed")
            self._release_duplicates(source, why)

    def _decide_duplicates(self, source: Source) -> None:
        for twin in self.waiting.pop(source.item.uri, []):
            self._finish(twin, "duplicate", duplicate_of=source.item.uri)

    def _release_duplicates(self, source: Source, why: dict[str, str]) -> None:
        """The same bytes fail in the same way, unless they could not be read; a file of the same id gets its turn."""
        twins = self.waiting.pop(source.item.uri, [])
        for one in (source, *twins):
            if one.facts["md5"]:
                self.dedup.forget(source.item.uri, one.md5, self.history.id_of(one.item))
        for twin in twins:
            is_same = twin.md5 == source.facts["md5"]
            if is_same and (source.changed or not why["message"].startswith("io: ")):
                self._fail(twin, why)
            else:
                self._begin(twin)

    def _failure(self, source: Source, why: dict[str, str], clip_id: str | None = None) -> None:
        attempts = self.history.attempts(source.item.uri, why["stage"], clip_id) + 1
        fingerprint = self.history.fingerprint_of(why["stage"], self.recipe)
        self.committer.add_failure(
            failure_row(source.item.uri, source.facts["md5"], clip_id, why, attempts, fingerprint)
        )

    # --- around it ------------------------------------------------------------------------------------------------

    def _write(self, number: int, clip_ids: list[str], payloads: list[Any]) -> None:
        self.flow.add("write", number, self.store.uri, clip_ids, *payloads)

    def _show(self, progress: Progress) -> None:
        done = sum(self.state[name] for name in ("ok", "duplicate", "failed", "unchanged"))
        progress.show(done, len(self.history.todo), clips=self.state["clips"], failed=self.state["failed"])

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
            clips=self.state["clips"],
            clips_failed=self.state["clips_failed"],
            annotations_failed=self.state["annotations_failed"],
            seconds=seconds,
            stage_seconds=dict(self.stage_seconds),
            clip_bytes=self.clip_bytes,
            **{name: self.state[name] for name in ("frames_in_shots", "frames_in_transitions", "frames_dropped")},
            no_clip=dict(self.no_clip + self.history.no_clip),
            same_id=dict(self.same_id),
        )

    def _record(self, run_id: str, began: datetime, state: str, summary: Summary) -> None:
        counts = {k: getattr(summary, k) for k in ("inputs", "ok", "duplicate", "failed", "done_before", "clips")}
        row = {
            "run_id": run_id,
            "command": "curate",
            "recipe": self.recipe.to_yaml(),
            "versions": json.dumps(versions()),
            "counts": json.dumps(counts | {"clips_failed": summary.clips_failed}),
            "stage_seconds": json.dumps({k: round(v, 3) for k, v in summary.stage_seconds.items()}),
            "stage_bytes": json.dumps({"clips": summary.clip_bytes}),
            "state": state,
            "started_at": began,
            "ended_at": datetime.now(UTC),
        }
        self.store.append("runs", [row])
