"""Which samples every step sees, from the snapshot's rows, the recipe and the seed alone.

An epoch draws as many samples as there are training clips: a clip of weight w appears floor(w / mean) times or once
more (systematic sampling). Every draw gets a task and a size by weight, so a bucket; the draws of one bucket and task
are cut into micro-batches of equal size (to one sample) that keep the token budget, so nothing is left over at the
end of an epoch. Epochs follow one another without a gap: a step takes the next `batches_per_step` micro-batches, the
costliest first, and data rank r of R takes r, r + R, … of them: those that are computed side by side cost about the
same, and no rank waits long for another. The state of the sampler is therefore the step's number, whatever the
number of ranks.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from reelwright.model.config import STRIDE, DiTConfig
from reelwright.model.flops import forward_flops
from reelwright.training.batch import TASKS, Task
from reelwright.training.data.buckets import FILLED, Assignment, Bucket, assign, size_order
from reelwright.training.data.holdout import hashes, held_out
from reelwright.training.errors import TrainError
from reelwright.training.recipe import DataConfig, TaskConfig

COLUMNS = ("clip_id", "weight", "width", "height", "fps", "num_frames", "source_md5")
EPOCHS_KEPT = 2  # in memory: a step may straddle two


@dataclass(frozen=True)
class Draw:
    """One sample. row: index of the clip in `Schedule.clip_ids`. index: of the draw, since step 0. seed: of its noise,
    timestep and caption."""

    clip_id: str
    index: int
    seed: int
    row: int


@dataclass(frozen=True)
class MicroBatch:
    """Samples of one shape and task. cond_frames: clean latent frames at the beginning. validation: captions are not
    drawn."""

    bucket: Bucket
    task: Task
    cond_frames: int
    samples: list[Draw]
    validation: bool = False


@dataclass(frozen=True)
class _Epoch:
    """rows: of every draw, batch after batch; batch j is rows[starts[j] : starts[j + 1]]. groups, conds: of each
    batch."""

    rows: np.ndarray
    starts: np.ndarray
    groups: np.ndarray
    conds: np.ndarray
    order: np.ndarray

    def __len__(self) -> int:
        return len(self.order)


@dataclass
class Schedule:
    """rows: COLUMNS of the snapshot's clips and their captions, in any order (`training.data.rows.snapshot_rows`).
    failed: clips to leave out. Not for two threads at once.

    Raises TrainError when no clip can be used.
    """

    rows: pa.Table
    data: DataConfig
    tasks: TaskConfig
    config: DiTConfig
    seed: int = 0
    failed: frozenset[str] = frozenset()
    clip_ids: pa.Array = field(init=False)
    assigned: Assignment = field(init=False)
    train: np.ndarray = field(init=False)
    held_out: np.ndarray = field(init=False)
    unused: dict[str, int] = field(init=False)
    lengths: np.ndarray = field(init=False)  # frames of every clip at the recipe's rate

    def __post_init__(self) -> None:
        rows = self.rows.sort_by("clip_id")
        self.rows = rows
        self.clip_ids = rows.column("clip_id").combine_chunks()
        width, height, frames = _shape_of(rows, self.data.fps)
        self.lengths = frames
        self.assigned = assign(np.maximum(width, 1), np.maximum(height, 1), frames, self.data)
        self.names: list[Task] = [t for t in TASKS if getattr(self.tasks, t) > 0]
        known = width * height > 0
        lost = (
            np.array([c in self.failed for c in self.clip_ids.to_pylist()])
            if self.failed
            else np.zeros(len(rows), bool)
        )
        can = self._can(known & ~lost)
        self.pattern, self.chances = _chances(can, self._task_weights(), self._size_weights())
        usable = np.asarray(can.any((1, 2)))
        why = {
            "of unknown size": ~known,
            "failed to encode": known & lost,
            "too short for the tasks": known & ~lost & ~usable,
        }
        self.unused = {reason: int(which.sum()) for reason, which in why.items() if which.any()}
        ids, sources = self.clip_ids.to_pylist(), _column(rows, "source_md5").to_pylist()
        self.holdout_by, is_held = held_out(ids, sources, usable, self.data.holdout)
        self.train, self.held_out = np.flatnonzero(usable & ~is_held), np.flatnonzero(usable & is_held)
        if not len(self.train):
            reasons = "; ".join(f"{n} {reason}" for reason, n in self.unused.items()) or "the snapshot is empty"
            raise TrainError(f"no clip of the snapshot can be trained on ({reasons}); change data.frames or tasks")
        weights = _column(rows, "weight").to_numpy(zero_copy_only=False).astype(float)[self.train]
        self.expected = weights * (len(weights) / weights.sum())  # draws of each training clip in an epoch
        self._starts = [0]  # first micro-batch of each epoch that has been made
        self._epochs: OrderedDict[int, _Epoch] = OrderedDict()

    def step(self, i: int) -> list[MicroBatch]:
        """The `batches_per_step` micro-batches of step i (from 0), by falling cost."""
        per_step = self.data.batches_per_step
        return sorted((self.batch(k) for k in range(i * per_step, (i + 1) * per_step)), key=self.cost, reverse=True)

    def cost(self, micro: MicroBatch) -> int:
        """FLOPs of a micro-batch's forward pass, with dense attention."""
        (frames, height, width), (_, high, wide) = micro.bucket.latent, self.config.patch_size
        return forward_flops(
            self.config, (frames, height // high, width // wide),
            batch=len(micro.samples), cond_frames=micro.cond_frames, text_tokens=self.config.text_tokens,
        )  # fmt: skip

    def batch(self, k: int) -> MicroBatch:
        """The k-th micro-batch since step 0."""
        while k >= self._starts[-1]:
            self._starts.append(self._starts[-1] + len(self._epoch(len(self._starts) - 1)))
        number = bisect_right(self._starts, k) - 1
        epoch = self._epoch(number)
        j = int(epoch.order[k - self._starts[number]])
        first, last = int(epoch.starts[j]), int(epoch.starts[j + 1])
        bucket, task = self._group(int(epoch.groups[j]))
        serial = np.arange(first, last, dtype=np.uint64) + np.uint64(number * len(self.train))
        seeds = mix(serial + mix(np.array([self.seed & MASK], np.uint64)))
        samples = [
            Draw(self.clip_ids[int(row)].as_py(), int(n), int(seed >> np.uint64(1)), int(row))
            for row, n, seed in zip(epoch.rows[first:last], serial, seeds, strict=True)
        ]
        return MicroBatch(bucket, task, int(epoch.conds[j]), samples)

    def epoch_of(self, i: int) -> int:
        """Epoch, from 0, in which step i begins."""
        self.batch(i * self.data.batches_per_step)
        return bisect_right(self._starts, i * self.data.batches_per_step) - 1

    def epoch_batches(self, number: int) -> range:
        """Numbers, for `batch`, of the micro-batches of an epoch."""
        while len(self._starts) <= number + 1:
            self._starts.append(self._starts[-1] + len(self._epoch(len(self._starts) - 1)))
        return range(self._starts[number], self._starts[number + 1])

    def validation(self, clips: int = 64) -> list[MicroBatch]:
        """Held-out clips, at most so many, each once for every task it can do, in the largest size it fills. Their
        seeds come from the clip's id and the task: the same in every run."""
        keys = hashes(self.clip_ids[int(row)].as_py() for row in self.held_out)
        chosen = self.held_out[np.argsort(keys, kind="stable")][:clips]
        keys = np.sort(keys)[:clips]
        out = []
        for t, task in enumerate(self.names):
            groups = self._largest(chosen, t)
            for group in np.unique(groups[groups >= 0]):
                out += self._validation_batches(task, t, int(group), chosen[groups == group], keys[groups == group])
        return out

    def wanted(self) -> Iterator[tuple[Bucket, np.ndarray]]:
        """(bucket, rows of the clips that may be drawn in it): what precomputing must have made. In order of the
        buckets."""
        reach = np.asarray(self.chances.reshape(len(self.chances), len(self.names), -1) > 0)
        still = np.array([t == "t2i" for t in self.names])
        as_image, as_video = (np.asarray(reach[:, of].any((1, 2)))[self.pattern] for of in (still, ~still))
        for b, bucket in enumerate(self.assigned.buckets):
            table, may = (self.assigned.image, as_image) if bucket.frames == 1 else (self.assigned.video, as_video)
            rows = np.flatnonzero((table == b).any(1) & may)
            if len(rows):
                yield bucket, rows

    def captions_of(self, row: int) -> list[str]:
        """The captions of a clip, at least one."""
        if "captions" not in self.rows.schema.names:
            return [""]
        return self.rows.column("captions")[row].as_py() or [""]

    def captions(self) -> list[str]:
        """Every caption that may be wanted, each once, the empty one first."""
        import pyarrow.compute as pc

        if "captions" not in self.rows.schema.names:
            return [""]
        used = self.rows.column("captions").take(np.sort(np.concatenate([self.train, self.held_out])))
        return list(dict.fromkeys(["", *pc.unique(pc.list_flatten(used)).to_pylist()]))

    def capacity(self, bucket: Bucket) -> int:
        """Samples of a micro-batch in this bucket, at most."""
        return max(1, self.data.tokens_per_batch // bucket.tokens(self.config.patch_size))

    def shapes(self) -> int:
        """Shapes of micro-batches (bucket, samples, condition frames) in an epoch: each is compiled for itself."""
        epoch, found = self._epoch(0), set()
        for group, size, cond in zip(epoch.groups, np.diff(epoch.starts), epoch.conds, strict=True):
            found.add((int(group) // len(self.names), int(size), int(cond)))
        return len(found)

    def about(self) -> dict[str, int | str]:
        """Counts for a person: training, held-out and unused clips, and those enlarged beyond what they fill."""
        enlarged = int((self.assigned.scale[:, 0] > 1 / FILLED).sum())
        facts: dict[str, int | str] = {
            "clips": len(self.rows),
            "train": len(self.train),
            "held_out": len(self.held_out),
        }
        return facts | {"held_out_by": self.holdout_by, "enlarged": enlarged, **self.unused}

    # --- an epoch ----------------------------------------------------------------------------------------------------

    def _epoch(self, number: int) -> _Epoch:
        if number in self._epochs:
            self._epochs.move_to_end(number)
        else:
            self._epochs[number] = self._make_epoch(np.random.default_rng([self.seed & MASK, number]))
            if len(self._epochs) > EPOCHS_KEPT:
                self._epochs.popitem(last=False)
        return self._epochs[number]

    def _make_epoch(self, rng: np.random.Generator) -> _Epoch:
        rows = self.train[systematic(self.expected, rng)]
        groups = self._draw_groups(rows, rng)
        by_group = np.argsort(groups, kind="stable")
        kinds, counts = np.unique(groups, return_counts=True)
        sizes, of = [], []
        for kind, count in zip(kinds.tolist(), counts.tolist(), strict=True):
            batches = -(-count // self.capacity(self._group(kind)[0]))
            sizes += [(count + k) // batches for k in range(batches)]
            of += [kind] * batches
        starts = np.concatenate([[0], np.cumsum(sizes)])
        conds = np.array([self._cond_frames(kind, rng) for kind in of], np.int32)
        return _Epoch(rows[by_group], starts, np.array(of), conds, rng.permutation(len(of)))

    def _draw_groups(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Bucket × task of each draw."""
        cumulative = self.chances.cumsum(1)[:, :-1][self.pattern[rows]]
        option = (rng.random(len(rows))[:, None] >= cumulative).sum(1)
        task, size = np.divmod(option, self.assigned.image.shape[1])
        image = np.array([t == "t2i" for t in self.names])[task]
        bucket = np.where(image, self.assigned.image[rows, size], self.assigned.video[rows, size])
        return bucket * len(self.names) + task

    def _group(self, group: int) -> tuple[Bucket, Task]:
        return self.assigned.buckets[group // len(self.names)], self.names[group % len(self.names)]

    def _cond_frames(self, group: int, rng: np.random.Generator) -> int:
        bucket, task = self._group(group)
        fits = [f for f in self.tasks.condition_frames if f < bucket.frames]
        return latent_condition(task, fits[int(rng.integers(len(fits)))] if task == "continuation" else 1)

    # --- set-up ------------------------------------------------------------------------------------------------------

    def _can(self, known: np.ndarray) -> np.ndarray:
        """[N, tasks, sizes]: what each clip can be drawn for."""
        shortest = min(self.tasks.condition_frames, default=0)
        frames = np.array([b.frames for b in self.assigned.buckets] + [0])
        video, image = self.assigned.video >= 0, self.assigned.image >= 0
        long = video & (frames[self.assigned.video] > shortest) if self.tasks.condition_frames else video & False
        can = {"t2i": image, "t2v": video, "i2v": video, "continuation": long}
        return np.stack([can[t] for t in self.names], 1) & known[:, None, None]

    def _task_weights(self) -> np.ndarray:
        return np.array([getattr(self.tasks, t) for t in self.names])

    def _size_weights(self) -> np.ndarray:
        """In the order of `assigned`: from the smallest class on."""
        if not self.data.size_weights or len(self.data.sizes) != self.assigned.image.shape[1]:
            return np.ones(self.assigned.image.shape[1])
        return np.array(self.data.size_weights)[size_order(self.data)]

    def _largest(self, rows: np.ndarray, t: int) -> np.ndarray:
        """Group of each row for task t in the largest size it can do, -1 for none."""
        reach = self.chances.reshape(len(self.chances), len(self.names), -1)[self.pattern[rows], t]
        reach = np.asarray(reach > 0)
        size = reach.shape[1] - 1 - reach[:, ::-1].argmax(1)
        table = self.assigned.image if self.names[t] == "t2i" else self.assigned.video
        return np.where(reach.any(1), table[rows, size] * len(self.names) + t, -1)

    def _validation_batches(
        self, task: Task, t: int, group: int, rows: np.ndarray, keys: np.ndarray
    ) -> list[MicroBatch]:
        bucket = self._group(group)[0]
        cond = latent_condition(task, next((f for f in self.tasks.condition_frames if f < bucket.frames), 1))
        seeds = mix(keys + np.uint64(t)) >> np.uint64(1)
        draws = [
            Draw(self.clip_ids[int(r)].as_py(), n, int(seed), int(r))
            for n, (r, seed) in enumerate(zip(rows, seeds, strict=True))
        ]
        size = self.capacity(bucket)
        return [MicroBatch(bucket, task, cond, draws[n : n + size], True) for n in range(0, len(draws), size)]


def latent_condition(task: Task, frames: int) -> int:
    """Clean latent frames of a task; frames: clean pixel frames of a continuation."""
    return {"t2i": 0, "t2v": 0, "i2v": 1, "continuation": (frames - 1) // STRIDE[0] + 1}[task]


def systematic(expected: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Indices, in random order, of len(expected) draws: each i floor(expected[i]) times or once more. expected: sums
    to its length."""
    order = rng.permutation(len(expected))
    edges = np.cumsum(expected[order])
    edges *= len(expected) / edges[-1]
    counts = np.diff(np.floor(edges + rng.random()), prepend=0).astype(np.int64)
    counts[-1] += len(expected) - counts.sum()  # rounding of the last edge
    return rng.permutation(np.repeat(order, counts))


def caption_choice(seed: int, captions: int, dropout: float) -> int:
    """Which of a clip's captions a draw gets; `captions`, one past the last, is the empty one. By the draw's seed
    alone."""
    pick, drop = mix(np.array([seed, seed + 1], np.uint64) * np.uint64(2) + np.uint64(0x5EED)).tolist()
    return captions if drop < dropout * 2**64 else pick % captions


MASK = (1 << 64) - 1


def mix(x: np.ndarray) -> np.ndarray:
    """uint64 -> uint64, well mixed: the finalizer of SplitMix64 (Steele, Lea and Flood, 2014)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _shape_of(rows: pa.Table, rate: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """width and height (0 where unknown) and frames at `rate` of every clip."""
    width, height, count, fps = (
        _column(rows, name).fill_null(0).to_numpy(zero_copy_only=False).astype(float)
        for name in ("width", "height", "num_frames", "fps")
    )
    frames = np.rint(count * rate / np.where(fps > 0, fps, np.inf)).astype(np.int64)  # `buckets.samples`, of all
    return width, height, np.maximum(1, frames)


def _chances(can: np.ndarray, tasks: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(pattern of each clip [N], probability of each task × size for each pattern): a task by its weight among those
    the clip can do, then a size by its weight."""
    flat = can.reshape(len(can), -1)
    bits = flat @ (1 << np.arange(flat.shape[1]))
    _, first, pattern = np.unique(bits, return_index=True, return_inverse=True)
    some = can[first]  # [P, tasks, sizes]
    by_size = some * sizes
    by_size = by_size / np.maximum(by_size.sum(2, keepdims=True), 1e-300)
    by_task = some.any(2) * tasks
    by_task = by_task / np.maximum(by_task.sum(1, keepdims=True), 1e-300)
    return pattern, (by_task[:, :, None] * by_size).reshape(len(first), -1)


def _column(rows: pa.Table, name: str) -> pa.Array:
    if name not in rows.schema.names:
        return pa.nulls(rows.num_rows, pa.string() if name == "source_md5" else pa.float64())
    return rows.column(name).combine_chunks()
