"""Batches for the loop: this rank's micro-batches of every step, read ahead by threads."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass
from typing import overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from torch.utils.data import IterableDataset, get_worker_info

from reelwright.curation.store import Store
from reelwright.training.batch import Batch, PairBatch, draw
from reelwright.training.data.encode import fingerprints_of
from reelwright.training.data.fresh import FreshSamples
from reelwright.training.data.fresh import samples_of as samples_for
from reelwright.training.data.latents import Samples, StoredSamples
from reelwright.training.data.mix_rows import training_rows
from reelwright.training.data.pairs import HALVES
from reelwright.training.data.schedule import MicroBatch, Schedule, caption_choice
from reelwright.training.data.side_stream import side_stream
from reelwright.training.errors import TrainError
from reelwright.training.mix import options
from reelwright.training.recipe import EncodeConfig, TrainRecipe

STAGE = "precompute"  # in `failures`


def make_schedule(
    store: Store,
    snapshot: str,
    recipe: TrainRecipe,
    *,
    left_out: Collection[str] | None = None,
    hashes: bool = False,
) -> Schedule:
    """Make the schedule of a recipe over a snapshot, without clips that `reel precompute` could not encode.

    Args:
        store: that holds the snapshot.
        snapshot: empty where the recipe's `data.mix` names several.
        recipe: of the run.
        left_out: those of the run's beginning, where it goes on: one that was encoded since would change every draw.
        hashes: of captions, in place of their texts.

    Raises:
        TrainError: the snapshot has no clip that can be used.
    """
    rows = training_rows(store, snapshot, recipe.data, hashes=hashes)
    if left_out is not None:
        return Schedule(rows, recipe.data, recipe.tasks, recipe.model, recipe.seed, failed=frozenset(left_out))
    schedule = Schedule(rows, recipe.data, recipe.tasks, recipe.model, recipe.seed)
    if recipe.data.encode.latents != "precomputed":
        return schedule
    fingerprints = fingerprints_of(recipe)
    condition = f"stage = '{STAGE}' AND fingerprint = '{fingerprints.latents}' AND clip_id IS NOT NULL"
    failed = store.read("failures", ["clip_id"], condition).column(0).unique()
    if not len(failed):
        return schedule
    missing, _ = StoredSamples(store, schedule, fingerprints).missing_latents()
    rows_of_lost = np.unique(np.concatenate([np.empty(0, np.int64), *missing.values()]))
    ids = schedule.clip_ids.take(pa.array(rows_of_lost))
    lost = ids.filter(pc.is_in(ids, value_set=failed.cast(ids.type))).to_pylist()
    if not lost:
        return schedule
    return Schedule(rows, recipe.data, recipe.tasks, recipe.model, recipe.seed, failed=frozenset(lost))


@dataclass(frozen=True)
class Portion:
    """Which batches a loader reads.

    data_rank, data_size: those of one of so many data ranks. start_step, stop_step: of these steps, the last one
    exclusive; None: without end. pin: into memory that a GPU copies from while it computes.
    """

    data_rank: int = 0
    data_size: int = 1
    start_step: int = 0
    stop_step: int | None = None
    pin: bool = False


class Loader(IterableDataset[Batch]):
    """Iterates the batches of its portion.

    Threads read `recipe.data.prefetch` micro-batches ahead. The handles of the store are opened in the thread that
    reads; a loader may be sent to a spawned process, not to a forked one. It is a data set of whole batches:
    `DataLoader(loader, batch_size=None, num_workers=1, multiprocessing_context="spawn")`; several workers share the
    batches, and their order is that of one.
    """

    def __init__(
        self,
        store: Store,
        snapshot: str,
        schedule: Schedule,
        recipe: TrainRecipe,
        *,
        portion: Portion = Portion(),
        samples: Samples | None = None,
        recipe_path: str = "RECIPE",
    ) -> None:
        """Make sure that there is all that the schedule may draw.

        Args:
            store: holds the clips.
            snapshot: names them; empty where the recipe's `data.mix` does.
            schedule: which samples a step has.
            recipe: of the run.
            portion: which batches.
            samples: of the clips, or encoders (`FreshSamples`) of whatever the recipe does not have precomputed; None:
                all is read from the store.
            recipe_path: named in the command of an error.

        Raises:
            TrainError: something is not precomputed, the data ranks cannot share a step, or, while iterating, the
                network does not fit the encoders.
        """
        super().__init__()
        if schedule.data.batches_per_step % portion.data_size:
            raise TrainError(
                f"data.batches_per_step is {schedule.data.batches_per_step}, which {portion.data_size} data ranks "
                f"cannot share equally; make it a multiple of {portion.data_size}"
            )
        self.schedule, self.recipe, self.portion = schedule, recipe, portion
        fingerprints = fingerprints_of(recipe)
        self.encoder_fingerprint = fingerprints.both
        encoders = samples if isinstance(samples, FreshSamples) else None

        def stored() -> StoredSamples:
            found = StoredSamples(store, schedule, fingerprints)
            named = options(snapshot, recipe.data.mix)
            command = f"reel precompute {recipe_path} {named} --store {store.uri}"
            refuse_missing(found, recipe, command, encodes=bool(encoders))
            return found

        ready = samples if encoders is None else None
        self.samples: Samples = ready or samples_for(stored, encoders, schedule, fingerprints)

    def of(self, portion: Portion) -> Loader:
        """Return a loader of other batches of the same samples."""
        other = copy(self)
        other.portion = portion
        return other

    @property
    def batches_per_step(self) -> int:
        """Micro-batches of a step on this rank."""
        return self.schedule.data.batches_per_step // self.portion.data_size

    def __iter__(self) -> Iterator[Batch]:
        if not self.schedule.data.workers:
            for work in self._work():
                began = time.perf_counter()
                batch = self._read(*work)
                batch.wait_s = time.perf_counter() - began
                yield batch
            return
        pool = ThreadPoolExecutor(self.schedule.data.workers, thread_name_prefix="reel-data")
        planner = ThreadPoolExecutor(1, thread_name_prefix="reel-plan")  # a schedule is not for two threads at once
        try:
            yield from self._ahead(pool, planner)
        finally:
            for one in (planner, pool):
                one.shutdown(wait=False, cancel_futures=True)

    def validation(self, clips: int) -> Sequence[Batch]:
        """Return the held-out batches, the same on every rank; each is read when it is looked at."""
        return _Lazy(self, self.schedule.validation(clips))

    def _ahead(self, pool: ThreadPoolExecutor, planner: ThreadPoolExecutor) -> Iterator[Batch]:
        """Yield batches that are read ahead, of steps that are planned ahead: neither is in the training's thread."""
        work, most = self._work(), self.schedule.data.prefetch
        planned: deque[Future[tuple[MicroBatch, int, int, int] | None]] = deque()
        waiting: deque[Future[Batch]] = deque()
        while True:
            began = time.perf_counter()
            planned.extend(planner.submit(next, work, None) for _ in range(most - len(planned)))
            while len(waiting) < most and planned and (planned[0].done() or not waiting):
                if one := planned.popleft().result():
                    waiting.append(pool.submit(self._read, *one))
            if not waiting:
                return
            batch = waiting.popleft().result()
            batch.wait_s = time.perf_counter() - began
            yield batch

    def _work(self) -> Iterator[tuple[MicroBatch, int, int, int]]:
        """(micro-batch, step, its index in the step, samples of the step) of this rank."""
        step, portion, worker = self.portion.start_step, self.portion, get_worker_info()
        first, stride = (worker.id, worker.num_workers) if worker else (0, 1)  # of the portion, in a DataLoader
        number = 0
        while portion.stop_step is None or step < portion.stop_step:
            micros = self.schedule.step(step)
            total = sum(len(m.samples) for m in micros)
            for index in range(portion.data_rank, len(micros), portion.data_size):
                if number % stride == first:
                    yield micros[index], step, index, total
                number += 1
            step += 1

    def _read(self, micro: MicroBatch, step: int, index: int, total: int) -> Batch:
        from reelwright.model.text import pack_text

        captions, dropped = self._captions(micro)
        with side_stream(self.samples.device) as ready:
            latents = self.samples.latents(micro.bucket, micro.samples)
            latents, *upsampled = latents.chunk(HALVES, 1) if self.recipe.data.pair else (latents,)
            text = pack_text(self.samples.states(captions), self.recipe.model.text_tokens)
            _refuse_misfit(self.recipe, latents.shape[1], text.states.shape[1])
            seeds = [d.seed for d in micro.samples]
            batch = Batch(
                latents, text, micro.task, micro.cond_frames, seeds, [d.clip_id for d in micro.samples],
                total, step, index, dropped=dropped, captions=self._told(captions), bucket=micro.bucket.key,
                place=micro.place, draws=draw(seeds, latents.shape), ready=ready(),
            )  # fmt: skip
            if upsampled:
                batch = PairBatch.of(batch, *upsampled)
        return batch.pinned() if self.portion.pin else batch

    def _told(self, captions: list[str]) -> tuple[str, ...]:
        """Return the captions where videos are made of them; elsewhere they may be hashes."""
        return tuple(captions) if self.recipe.objective.makes_videos else ()

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


def refuse_missing(stored: StoredSamples, recipe: TrainRecipe, command: str, *, encodes: bool) -> None:
    """Raise TrainError where the store lacks what a recipe wants precomputed: all, where it does not encode."""
    missing = stored.missing().stored_by(recipe.data.encode if encodes else EncodeConfig())
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
