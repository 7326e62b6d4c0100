"""Batches for the loop: this rank's micro-batches of every step, read ahead by threads."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import overload

from reelwright.curation.store import Store
from reelwright.training.batch import Batch, draw
from reelwright.training.data.encode import fingerprints_of
from reelwright.training.data.fresh import samples_of
from reelwright.training.data.latents import Missing, Samples, StoredSamples
from reelwright.training.data.rows import snapshot_rows
from reelwright.training.data.schedule import MicroBatch, Schedule, caption_choice
from reelwright.training.data.side_stream import side_stream
from reelwright.training.errors import TrainError
from reelwright.training.recipe import EncodeConfig, TrainRecipe

STAGE = "precompute"  # in `failures`


def make_schedule(
    store: Store, snapshot: str, recipe: TrainRecipe, *, left_out: Collection[str] | None = None
) -> Schedule:
    """Make the schedule of a recipe over a snapshot, without clips that `reel precompute` could not encode.

    left_out: those of the run's beginning, where it goes on: one that was encoded since would change every draw.
    Raises TrainError when the snapshot has no clip that can be used.
    """
    rows = snapshot_rows(store, snapshot, recipe.data.caption_column, recipe.data.caption_kinds)
    if left_out is not None:
        return Schedule(rows, recipe.data, recipe.tasks, recipe.model, recipe.seed, failed=frozenset(left_out))
    schedule = Schedule(rows, recipe.data, recipe.tasks, recipe.model, recipe.seed)
    if recipe.data.encode.latents != "precomputed":
        return schedule
    fingerprints = fingerprints_of(recipe)
    condition = f"stage = '{STAGE}' AND fingerprint = '{fingerprints.latents}' AND clip_id IS NOT NULL"
    failed = set(store.read("failures", ["clip_id"], condition).column(0).to_pylist())
    if not failed:
        return schedule
    missing = StoredSamples(store, schedule, fingerprints).missing().latents.values()
    lost = failed & {schedule.clip_ids[int(row)].as_py() for rows in missing for row in rows}
    if not lost:
        return schedule
    return Schedule(rows, recipe.data, recipe.tasks, recipe.model, recipe.seed, failed=frozenset(lost))


class Loader:
    """Iterates this rank's batches from `start_step` on, without end unless `stop_step` (exclusive) says where.

    Threads read `recipe.data.prefetch` micro-batches ahead. The handles of the store are opened in the thread that
    reads; a loader may be sent to a spawned process, not to a forked one. Raises TrainError where
    something is not precomputed, with the command that mends it, and where the network does not fit the encoders.
    """

    def __init__(
        self,
        store: Store,
        snapshot: str,
        schedule: Schedule,
        recipe: TrainRecipe,
        *,
        data_rank: int = 0,
        data_size: int = 1,
        start_step: int = 0,
        stop_step: int | None = None,
        samples: Samples | None = None,
        recipe_path: str = "RECIPE",
        pin: bool = False,
    ) -> None:
        """samples: encoders of whatever the recipe does not have precomputed; None: all is read from the store.
        recipe_path: for the message alone. pin: into memory that a GPU copies from while it computes.
        """
        if schedule.data.batches_per_step % data_size:
            raise TrainError(
                f"data.batches_per_step is {schedule.data.batches_per_step}, which {data_size} data ranks cannot share "
                f"equally; make it a multiple of {data_size}"
            )
        self.schedule, self.recipe = schedule, recipe
        self.data_rank, self.data_size = data_rank, data_size
        self.start_step, self.stop_step = start_step, stop_step
        self.pin = pin
        fingerprints = fingerprints_of(recipe)
        self.encoder_fingerprint = fingerprints.both

        def stored() -> StoredSamples:
            found = StoredSamples(store, schedule, fingerprints)
            encode = recipe.data.encode if samples else EncodeConfig()
            command = f"reel precompute {recipe_path} --snapshot {snapshot} --store {store.uri}"
            _refuse_missing(found.missing().stored_by(encode), command)
            return found

        self.samples: Samples = samples_of(stored, samples, schedule, fingerprints)

    @property
    def batches_per_step(self) -> int:
        """Micro-batches of a step on this rank."""
        return self.schedule.data.batches_per_step // self.data_size

    def __iter__(self) -> Iterator[Batch]:
        if not self.schedule.data.workers:
            for work in self._work():
                began = time.perf_counter()
                batch = self._read(*work)
                batch.wait_s = time.perf_counter() - began
                yield batch
            return
        pool = ThreadPoolExecutor(self.schedule.data.workers, thread_name_prefix="reel-data")
        try:
            yield from self._ahead(pool)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def validation(self, clips: int) -> Sequence[Batch]:
        """The held-out batches, the same on every rank; read when they are looked at."""
        return _Lazy(self, self.schedule.validation(clips))

    def _ahead(self, pool: ThreadPoolExecutor) -> Iterator[Batch]:
        waiting: deque[Future[Batch]] = deque()
        work = self._work()
        while True:
            while len(waiting) < self.schedule.data.prefetch and (one := next(work, None)):
                waiting.append(pool.submit(self._read, *one))
            if not waiting:
                return
            began = time.perf_counter()
            batch = waiting.popleft().result()
            batch.wait_s = time.perf_counter() - began
            yield batch

    def _work(self) -> Iterator[tuple[MicroBatch, int, int, int]]:
        """(micro-batch, step, its index in the step, samples of the step) of this rank."""
        step = self.start_step
        while self.stop_step is None or step < self.stop_step:
            micros = self.schedule.step(step)
            total = sum(len(m.samples) for m in micros)
            for index in range(self.data_rank, len(micros), self.data_size):
                yield micros[index], step, index, total
            step += 1

    def _read(self, micro: MicroBatch, step: int, index: int, total: int) -> Batch:
        from reelwright.model.text import pack_text

        captions, dropped = self._captions(micro)
        with side_stream(self.samples.device) as ready:
            latents = self.samples.latents(micro.bucket, micro.samples)
            text = pack_text(self.samples.states(captions), self.recipe.model.text_tokens)
            _refuse_misfit(self.recipe, latents.shape[1], text.states.shape[1])
            seeds = [d.seed for d in micro.samples]
            batch = Batch(
                latents, text, micro.task, micro.cond_frames, seeds, [d.clip_id for d in micro.samples],
                total, step, index, dropped=dropped, bucket=micro.bucket.key, draws=draw(seeds, latents.shape),
                ready=ready(),
            )  # fmt: skip
        return batch.pinned() if self.pin else batch

    def _captions(self, micro: MicroBatch) -> tuple[list[str], tuple[bool, ...]]:
        """Each sample's caption by its seed, and whether it was dropped; validation takes the first and drops none."""
        out, dropped = [], []
        for one in micro.samples:
            known = self.schedule.captions_of(one.row)
            chance = self.schedule.data.caption_dropout
            pick = 0 if micro.validation else caption_choice(one.seed, len(known), chance)
            dropped.append(pick == len(known))
            out.append([*known, ""][pick])
        return out, tuple(dropped)


class _Lazy(Sequence[Batch]):
    """Batches that are read each time they are looked at: hundreds of clips would not fit."""

    def __init__(self, loader: Loader, micros: list[MicroBatch]) -> None:
        self.loader, self.micros = loader, micros

    def __len__(self) -> int:
        return len(self.micros)

    @overload
    def __getitem__(self, i: int) -> Batch: ...

    @overload
    def __getitem__(self, i: slice) -> Sequence[Batch]: ...

    def __getitem__(self, i: int | slice) -> Batch | Sequence[Batch]:
        if isinstance(i, slice):
            return _Lazy(self.loader, self.micros[i])
        total = sum(len(m.samples) for m in self.micros)
        return self.loader._read(self.micros[i], -1, range(len(self.micros))[i], total)


def _refuse_missing(missing: Missing, command: str) -> None:
    if missing:
        raise TrainError(
            f"{missing.count:,} of {missing.wanted:,} latents and {len(missing.captions):,} of "
            f"{missing.wanted_captions:,} captions' states that the recipe needs are not in the store; make them with: "
            f"{command}"
        )


def _refuse_misfit(recipe: TrainRecipe, channels: int, width: int) -> None:
    model = recipe.model
    if channels != model.in_channels or width != model.caption_channels:
        raise TrainError(
            f"the encoders give {channels} latent channels and text states of width {width}, but the model wants "
            f"{model.in_channels} and {model.caption_channels}; set model.in_channels and "
            "model.caption_channels, or text.dim"
        )
