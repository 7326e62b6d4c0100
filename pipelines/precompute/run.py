"""`reel precompute`: the latents and text states that a recipe needs of a snapshot, made on Ray; only missing rows.

Workers decode, encode and write files; this process commits them, every half minute, so a crash loses no more than
that. Existing rows are known by (clip, bucket, fingerprint) and by (caption, fingerprint): the same command continues
where it was stopped.
"""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import numpy as np

from reelwright.curation.records.rows import failure_row
from reelwright.curation.records.runs import recorded_run
from reelwright.curation.results import Failed
from reelwright.curation.store import Store, StoreError
from reelwright.pipelines.precompute.encoder import Encoded, Encoder
from reelwright.pipelines.runtime.actors import Actors, Result, Work, pool_size
from reelwright.pipelines.runtime.cluster import cluster
from reelwright.pipelines.runtime.progress import Progress
from reelwright.training.data.encode import Fingerprints, fingerprints_of
from reelwright.training.data.latents import Missing, StoredSamples
from reelwright.training.data.loader import STAGE
from reelwright.training.data.mix_rows import media_versions, pinned, training_rows
from reelwright.training.data.prepared import Clips, keep
from reelwright.training.data.schedule import Schedule
from reelwright.training.data.windows import Window
from reelwright.training.errors import TrainError
from reelwright.training.recipe import TrainRecipe

COMMIT_S = 30.0
CLIPS_A_TASK = 32
PIXELS_A_TASK = 3 * 10**8  # about 8 clips of 480p and 93 frames, the loss when a worker is lost
CAPTIONS_A_TASK = 256


@dataclass
class Summary:
    """wanted == before + made + failed + left, for latents and for captions."""

    wanted: int
    before: int
    wanted_captions: int
    before_captions: int
    made: int = 0
    failed: int = 0
    made_captions: int = 0
    failed_captions: int = 0
    left: int = 0
    bytes: int = 0
    seconds: float = 0.0
    unused: dict[str, int] = field(default_factory=dict)

    @property
    def adds_up(self) -> bool:
        """Whether the counts add up."""
        captions = self.before_captions + self.made_captions + self.failed_captions
        return self.wanted == self.before + self.made + self.failed + self.left and self.wanted_captions == captions


@dataclass(frozen=True)
class Options:
    """How `reel precompute` runs.

    limit: latents to encode at most. retry_failed: try clips again that failed before. address: Ray cluster; None: this
    machine. workers: processes that hold the networks; None: `per_gpu` per GPU of the cluster, or one per CPU where it
    has no GPU. quiet: show no progress.
    """

    limit: int | None = None
    retry_failed: bool = False
    address: str | None = None
    workers: int | None = None
    per_gpu: int = 1
    quiet: bool = False


def precompute(store: Store, snapshot: str, recipe: TrainRecipe, options: Options | None = None) -> Summary:
    """Encode the latents and text states that are missing. Start Ray only if there are some.

    snapshot: empty where the recipe's `data.mix` names several; a clip of two of them is encoded once.
    """
    options = options or Options()
    rows = training_rows(store, snapshot, recipe.data)
    plan = Schedule(rows, recipe.data, recipe.tasks, recipe.model, recipe.seed)
    prints = fingerprints_of(recipe)
    with store.committing("latents"):
        missing = StoredSamples(store, plan, prints).missing().stored_by(recipe.data.encode)
        failed = set() if options.retry_failed else failed_before(store, prints)
        todo, known_failed = _without(missing, plan, failed)
        summary = Summary(
            missing.wanted, missing.wanted - missing.count, missing.wanted_captions,
            missing.wanted_captions - len(missing.captions), failed=known_failed, unused=plan.unused,
        )  # fmt: skip
        chosen = _first(todo, options.limit)
        summary.left = sum(map(len, todo.values())) - sum(map(len, chosen.values()))
        if chosen or len(missing.captions):
            with cluster(options.address), Progress("precompute", quiet=options.quiet) as progress:
                run = _Run(store, snapshot, recipe, plan, prints, summary)
                captions = missing.captions.to_pylist()
                run.run(chosen, captions, progress, workers=options.workers, per_gpu=options.per_gpu)
        if not summary.left and not summary.failed_captions:
            _keep_plan(store, snapshot, recipe)
    return summary


def _keep_plan(store: Store, snapshot: str, recipe: TrainRecipe) -> None:
    """Make the plan of runs beside the store, unless there is nothing to train on."""
    with suppress(TrainError):
        keep(Clips(store, snapshot), recipe)


def failed_before(store: Store, prints: Fingerprints) -> set[tuple[str, str]]:
    """(clip id, window) that these encoders have failed on."""
    condition = f"stage = '{STAGE}' AND fingerprint = '{prints.latents}' AND clip_id IS NOT NULL"
    rows = store.read("failures", ["clip_id", "error"], condition).to_pylist()
    return {(r["clip_id"], r["error"].partition(":")[0]) for r in rows}


class _Run:
    """One pass over the missing rows."""

    def __init__(
        self, store: Store, snapshot: str, recipe: TrainRecipe, plan: Schedule, prints: Fingerprints, summary: Summary
    ) -> None:
        self.store, self.recipe, self.plan, self.prints, self.summary = store, recipe, plan, prints, summary
        self.media_versions = media_versions(pinned(store, snapshot, recipe.data).values())
        self.fragments: dict[str, list[str]] = {"texts": [], "latents": []}
        self.failures: list[dict[str, Any]] = []
        self.todo: dict[Window, np.ndarray] = {}
        self.committed_at = time.monotonic()

    def run(
        self,
        todo: dict[Window, np.ndarray],
        captions: list[str],
        progress: Progress,
        *,
        workers: int | None,
        per_gpu: int,
    ) -> None:
        self.todo = todo
        clock, s = time.monotonic(), self.summary
        total = sum(map(len, todo.values()))
        with recorded_run(self.store, "precompute", json.dumps(self.recipe.model_dump(mode="json"))) as run:
            progress.tell = run.tell
            try:
                with Actors(*self._pool(workers, per_gpu, len(captions) + total)) as actors:
                    actors.refuse_unfit("precompute")
                    actors.queue.extend(_work(self.plan, todo, captions))
                    while actors:
                        for result in actors.next_done():
                            self._collect(result)
                        if time.monotonic() - self.committed_at >= COMMIT_S:
                            self._commit()
                        progress.show(s.made, total, captions=s.made_captions, failures=s.failed + s.failed_captions)
                self._commit()
                self.store.merge_encoded()
            finally:
                self._commit(last=True)
                s.seconds = time.monotonic() - clock
                run.counts = {"latents": s.made, "captions": s.made_captions, "failed": s.failed + s.failed_captions,
                              "left": s.left}  # fmt: skip
                run.stage_seconds = {"encode": s.seconds}
                run.stage_bytes = {"encode": s.bytes}

    def _pool(self, workers: int | None, per_gpu: int, items: int) -> tuple[Any, int]:
        import ray

        size, share = pool_size(items, workers, per_gpu=per_gpu)
        remote = ray.remote(Encoder).options(num_cpus=1, num_gpus=share)
        device = "cuda" if share else "cpu"
        arguments = (self.recipe.model_dump(mode="json"), self.store.uri, self.media_versions, device)
        return (lambda: remote.remote(*arguments)), size

    def _collect(self, result: Result) -> None:
        is_text = result.work.method == "encode_captions"
        encoded: Encoded = result.value or self._lost(result)
        self.fragments["texts" if is_text else "latents"].append(encoded.fragments)
        self.summary.bytes += encoded.num_bytes
        if is_text:
            self.summary.made_captions += encoded.rows
            self.summary.failed_captions += len(encoded.failures)
        else:
            self.summary.made += encoded.rows
            self.summary.failed += len(encoded.failures)
        for item, why in encoded.failures.items():
            self._fail(item, why, result.work)

    def _lost(self, result: Result) -> Encoded:
        """Nothing of a worker that was lost was written."""
        why = Failed(STAGE, f"the worker was lost ({result.lost})")
        return Encoded("[]", 0, 0, dict.fromkeys(result.work.items, why))

    def _fail(self, item: str, why: Failed, work: Work) -> None:
        if work.method == "encode_captions":
            row = failure_row("", None, None, replace(why, detail=item), 1, self.prints.texts)
        else:
            window = work.args[0].key
            message = why.message if why.message.startswith(f"{window}:") else f"{window}: {why.message}"
            of_bucket = replace(why, message=message)
            row = failure_row(self._uri(item), self._md5(item), item, of_bucket, 1, self.prints.latents)
        self.failures.append(row | {"at": datetime.now(UTC)})

    def _commit(self, *, last: bool = False) -> None:
        """Commit the encoded rows and the failures.

        Another run may hold the lock of `failures` (a curation does, from beginning to end): then they wait for the
        next commit.
        """
        self.committed_at = time.monotonic()
        for table, written in self.fragments.items():
            if written:
                self.store.commit_encoded(table, written)
                self.fragments[table] = []
        try:
            if self.failures:
                self.store.append("failures", self.failures)
                self.failures = []
        except StoreError:
            if last:
                raise

    def _md5(self, clip_id: str) -> str | None:
        return self.plan.plan.table.column("source_md5")[self._rows[clip_id]].as_py()

    @cached_property
    def _rows(self) -> dict[str, int]:
        """Row of each clip that is to be encoded: made at the first failure, if there is one."""
        rows = np.unique(np.concatenate(list(self.todo.values())))
        return dict(zip(self.plan.clip_ids.take(rows).to_pylist(), rows.tolist(), strict=True))

    def _uri(self, clip_id: str) -> str:
        found = self.store.read("sources", ["uri"], f"md5 = '{self._md5(clip_id)}' AND state = 'ok'").column(0)
        return found[0].as_py() if len(found) else ""


def _work(plan: Schedule, todo: dict[Window, np.ndarray], captions: list[str]) -> Iterator[Work]:
    """Yield captions first, so that the text encoder can leave; then the longest buckets.

    The longest are then not left to the end.
    """
    for start in range(0, len(captions), CAPTIONS_A_TASK):
        yield Work("encode_captions", (), tuple(captions[start : start + CAPTIONS_A_TASK]))
    for window, rows in sorted(todo.items(), key=lambda item: item[0].bucket.tokens(), reverse=True):
        bucket = window.bucket
        pixels = bucket.frames * bucket.height * bucket.width
        size = min(CLIPS_A_TASK, max(1, PIXELS_A_TASK // pixels))
        for start in range(0, len(rows), size):
            ids = plan.clip_ids.take(rows[start : start + size]).to_pylist()
            yield Work("encode_clips", (window,), tuple(ids))


def _without(missing: Missing, plan: Schedule, failed: set[tuple[str, str]]) -> tuple[dict[Window, np.ndarray], int]:
    """Return the missing windows that have not failed, and how many have."""
    if not failed:
        return missing.latents, 0
    todo, count = {}, 0
    for window, rows in missing.latents.items():
        ids = plan.clip_ids.take(rows).to_pylist()
        keep = np.array([(clip_id, window.key) not in failed for clip_id in ids])
        count += int((~keep).sum())
        if keep.any():
            todo[window] = rows[keep]
    return todo, count


def _first(todo: dict[Window, np.ndarray], limit: int | None) -> dict[Window, np.ndarray]:
    """At most `limit` of them, of the first clips by id, so that these are whole."""
    if limit is None:
        return todo
    ranked = sorted((int(row), window) for window, rows in todo.items() for row in rows)[:limit]
    out: dict[Window, list[int]] = {}
    for row, window in ranked:
        out.setdefault(window, []).append(row)
    return {window: np.array(rows) for window, rows in out.items()}
