"""Which samples every step sees, from the snapshot's rows, the recipe and the seed alone.

Draws follow one another without end; a pass draws as many samples as there are training clips, and a clip of weight w
appears in it floor(w / mean) times or once more. Every draw gets a task and a size by weight, so a bucket. Draws are
arranged block by block (`rounds`): into micro-batches of one bucket and task, and these into steps of
`batches_per_step` micro-batches that cost about the same. Data rank r of R takes r, r + R, … of a step, the costliest
first. The state of the sampler is therefore the step's number, whatever the number of ranks.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from reelwright.model.config import STRIDE, DiTConfig
from reelwright.model.flops import forward_flops
from reelwright.training.batch import Task
from reelwright.training.data.buckets import Bucket
from reelwright.training.data.draws import CONDITION, MASK, OPTION, SPREAD, key_of, mix, rows_of, uniform
from reelwright.training.data.holdout import hashes
from reelwright.training.data.mixture import Mixture, mixture
from reelwright.training.data.plan import HELD_OUT, TRAINED, Plan
from reelwright.training.data.plan_making import plan_of
from reelwright.training.data.rounds import Arrangement, arrange
from reelwright.training.recipe import DataConfig, TaskConfig

COLUMNS = ("clip_id", "weight", "width", "height", "fps", "num_frames", "source_md5")
VERSION = 3
"""Of the rules by which samples follow from the recipe: another one gives a run other samples, so it is another run."""
BLOCK = 1 << 17
"""Draws that are arranged at a time, at least: whole passes where a pass is shorter."""
SEVERAL = "of them again, for another snapshot"
BLOCKS_KEPT = 2  # in memory: a step may straddle two


@dataclass(frozen=True)
class Draw:
    """One sample.

    row: index of the clip in `Schedule.clip_ids`. index: of the draw, since step 0. seed: of its noise, timestep and
    caption.
    """

    clip_id: str
    index: int
    seed: int
    row: int


@dataclass(frozen=True)
class MicroBatch:
    """Samples of one shape and task.

    cond_frames: clean latent frames at the beginning. validation: captions are not drawn. place: samples of the run in
    the micro-batches before it.
    """

    bucket: Bucket
    task: Task
    cond_frames: int
    samples: list[Draw]
    validation: bool = False
    place: int = 0

    @property
    def shape(self) -> Shape:
        """Shape that a compiled network meets."""
        return Shape(self.bucket, len(self.samples), self.cond_frames)


@dataclass(frozen=True, order=True)
class Shape:
    """Of a micro-batch: what a network is compiled for."""

    bucket: Bucket
    samples: int
    cond_frames: int


@dataclass(frozen=True)
class _Block:
    """rows: of the block's draws, from number `first` on. before: draws in the micro-batches before each of its own."""

    first: int
    rows: np.ndarray
    batches: Arrangement

    @cached_property
    def before(self) -> np.ndarray:
        sizes = self.batches.stops - self.batches.starts
        return np.cumsum(sizes) - sizes


@dataclass
class Schedule:
    """Which samples each step has. Not for two threads at once.

    rows: a plan, or COLUMNS of the snapshot's clips and their captions, in any order
    (`training.data.rows.snapshot_rows`). failed: clips to leave out, where a plan is yet to be made. block: draws that
    are arranged at a time.

    Raises TrainError when no clip can be used.
    """

    rows: Plan | pa.Table
    data: DataConfig
    tasks: TaskConfig
    config: DiTConfig
    seed: int = 0
    failed: frozenset[str] = frozenset()
    block: int = BLOCK
    remember: Callable[[list[int]], None] | None = field(default=None, repr=False)
    """Told `starts` whenever a block was made for the first time, to set them where a run goes on."""
    plan: Plan = field(init=False, repr=False)
    mixture: Mixture = field(init=False, repr=False)
    starts: list[int] = field(init=False, repr=False)
    """First micro-batch of each block that has been made, and of the next."""

    def __post_init__(self) -> None:
        self.plan = self.rows if isinstance(self.rows, Plan) else plan_of(self.rows, self.data, self.tasks, self.failed)
        self.failed = frozenset(self.plan.facts.failed)
        self.names = self.plan.tasks
        self.still = np.array([task == "t2i" for task in self.names])
        clips = self.plan.facts.train
        self.block = self.block if clips > 2 * self.block else clips * -(-self.block // clips)
        self.chances = np.array(self.plan.facts.chances)
        self._costs: dict[tuple[Bucket, int, int], int] = {}
        full = [self._cost(b, self.capacity(b), 0) for b in self.plan.buckets]
        capacity = np.array([self.capacity(b) for b in self.plan.buckets])
        self.mixture = mixture(
            np.array(self.plan.facts.expected), self.still, capacity, np.array(full), self.data.batches_per_step
        )
        self.starts = [0]
        self._blocks: OrderedDict[int, _Block] = OrderedDict()

    @property
    def clip_ids(self) -> pa.Array:
        """Ids of the clips, by row."""
        return self.plan.clip_ids

    @property
    def unused(self) -> dict[str, int]:
        """Reason -> clips that are not used."""
        return self.plan.facts.unused

    @property
    def lengths(self) -> np.ndarray:
        """Frames of every clip at the recipe's rate."""
        return self.plan.lengths

    @cached_property
    def train(self) -> np.ndarray:
        """Rows of the clips that are trained on."""
        return np.flatnonzero(self.plan.state == TRAINED)

    @cached_property
    def held_out(self) -> np.ndarray:
        """Rows of the clips that are validated on."""
        return np.flatnonzero(self.plan.state == HELD_OUT)

    @property
    def expected(self) -> np.ndarray:
        """Draws of each training clip in a pass."""
        return np.diff(self.plan.edges, prepend=0)[self.train]

    def step(self, i: int) -> list[MicroBatch]:
        """Return the `batches_per_step` micro-batches of step i (from 0), by falling cost."""
        per_step = self.data.batches_per_step
        return sorted((self.batch(k) for k in range(i * per_step, (i + 1) * per_step)), key=self.cost, reverse=True)

    def cost(self, micro: MicroBatch) -> int:
        """FLOPs of a micro-batch's forward pass, with dense attention."""
        return self._cost(micro.bucket, len(micro.samples), micro.cond_frames)

    def batch(self, k: int) -> MicroBatch:
        """Return the k-th micro-batch since step 0."""
        while k >= self.starts[-1]:
            self._made(len(self.starts) - 1)
        number = bisect_right(self.starts, k) - 1
        block = self._made(number)
        j = k - self.starts[number]
        places = block.batches.draws[block.batches.starts[j] : block.batches.stops[j]]
        _, bucket, task = self.mixture.split(block.batches.groups[j])
        serials = places + block.first
        samples = [
            Draw(self.clip_ids[row].as_py(), n, seed, row)
            for row, n, seed in zip(
                block.rows[places].tolist(), serials.tolist(), self._seeds(serials).tolist(), strict=True
            )
        ]
        cond = self._cond_frames(int(bucket), int(task), int(serials[0]))
        place = block.first + int(block.before[j])
        return MicroBatch(self.plan.buckets[int(bucket)], self.names[int(task)], cond, samples, place=place)

    def block_batches(self, number: int) -> range:
        """Numbers, for `batch`, of the micro-batches of a block of draws."""
        while len(self.starts) <= number + 1:
            self._made(len(self.starts) - 1)
        return range(self.starts[number], self.starts[number + 1])

    def validation(self, clips: int = 64) -> list[MicroBatch]:
        """Return micro-batches of held-out clips, each clip once per task that it can do, in the largest size it fills.

        Their seeds come from the clip's id and the task: the same in every run. clips: how many, at most.
        """
        chosen = np.array(self.plan.facts.validated[:clips], np.int64)
        keys = hashes(self.clip_ids.take(chosen).to_pylist())
        out = []
        for t in range(len(self.names)):
            buckets = self._largest(chosen, t)
            for bucket in np.unique(buckets[buckets >= 0]).tolist():
                here = buckets == bucket
                out += self._validation_batches(t, bucket, chosen[here], keys[here])
        return out

    def wanted(self, here: slice = slice(None)) -> Iterator[tuple[Bucket, np.ndarray]]:
        """Yield each bucket and the rows of the clips that may be drawn in it, which precomputing must have made.

        here: of these rows alone; of a mix only all together, as each clip is of the first row that it has.
        """
        reach = self.chances > 0
        as_image, as_video = (
            np.asarray(reach[:, of].any((1, 2)))[self.plan.pattern[here]] for of in (self.still, ~self.still)
        )
        first = here.start or 0
        for b, bucket in enumerate(self.plan.buckets):
            table, may = (self.plan.image, as_image) if bucket.frames == 1 else (self.plan.video, as_video)
            rows = self.plan.each_once(np.flatnonzero((table[here] == b).any(1) & may) + first)
            if len(rows):
                yield bucket, rows

    def captions_of(self, row: int) -> list[Any]:
        """Return the captions of a clip, at least one: texts or their hashes, as the plan has them."""
        return self.plan.captions_of(row)

    def captions(self) -> list[Any]:
        """Return every caption that may be wanted, each once, the empty one first."""
        return self.plan.captions()

    def capacity(self, bucket: Bucket) -> int:
        """Return how many samples a micro-batch in this bucket has at most."""
        return max(1, self.data.tokens_per_batch // bucket.tokens(self.config.patch_size))

    def shapes(self) -> list[Shape]:
        """Return the shapes of full micro-batches that the clips can fill, the most frequent first.

        Left-overs of a block, a few micro-batches, have other numbers of samples.
        """
        often: dict[Shape, float] = {}
        for b, t in np.argwhere(np.array(self.plan.facts.expected) > 0).tolist():
            bucket = self.plan.buckets[b]
            for samples in self.mixture.sides if self.mixture.is_side[t] else [int(self.mixture.size[b])]:
                for cond in self._conditions(bucket, self.names[t]):
                    shape = Shape(bucket, samples, cond)
                    often[shape] = often.get(shape, 0) + self.plan.facts.expected[b][t] / samples
        return sorted(often, key=lambda shape: -often[shape])

    def facts(self) -> dict[str, int | str]:
        """Return counts for a person: training, held-out and unused clips, and clips that are enlarged too much."""
        facts = self.plan.facts
        counts: dict[str, int | str] = {"clips": facts.clips, "train": facts.train, "held_out": facts.held_out}
        if self.plan.clip is not None:
            counts[SEVERAL] = facts.clips - len(self.plan.distinct_ids)
        return counts | {"held_out_by": facts.held_out_by, "enlarged": facts.enlarged, **facts.unused}

    # --- a block -----------------------------------------------------------------------------------------------------

    def _made(self, number: int) -> _Block:
        if number in self._blocks:
            self._blocks.move_to_end(number)
            return self._blocks[number]
        block = self._blocks[number] = self._make(number)
        if len(self._blocks) > BLOCKS_KEPT:
            self._blocks.popitem(last=False)
        if number == len(self.starts) - 1:
            self.starts.append(self.starts[-1] + len(block.batches))
            if self.remember:
                self.remember(self.starts)
        return block

    def _make(self, number: int) -> _Block:
        """Needs `starts` of the block."""
        serials = np.arange(number * self.block, (number + 1) * self.block)
        rows = rows_of(serials, self.plan.edges, self.plan.facts.train, self.seed)
        task, size = self._options(rows, serials)
        bucket = np.where(self.still[task], self.plan.image[rows, size], self.plan.video[rows, size]).astype(np.int64)
        groups = self.mixture.groups(bucket, task)
        batches = arrange(
            groups, self.mixture,
            step=self.data.batches_per_step, offset=self.starts[number], key=key_of(self.seed, SPREAD, number),
            snapshots=None if self.plan.snapshot is None else self.plan.snapshot[rows].astype(np.int64),
        )  # fmt: skip
        return _Block(number * self.block, rows, batches)

    def _options(self, rows: np.ndarray, serials: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(task, size) of each draw."""
        cumulative = self.chances.reshape(len(self.chances), -1).cumsum(1)[:, :-1][self.plan.pattern[rows]]
        option = (uniform(serials, key_of(self.seed, OPTION))[:, None] >= cumulative).sum(1)
        return np.divmod(option, self.plan.sizes)

    def _seeds(self, serials: np.ndarray) -> np.ndarray:
        mixed = mix(serials.astype(np.uint64) + mix(np.array([self.seed & MASK], np.uint64)))
        return (mixed >> np.uint64(1)).astype(np.int64)

    def _cost(self, bucket: Bucket, samples: int, cond_frames: int) -> int:
        key = (bucket, samples, cond_frames)
        if key not in self._costs:
            (frames, height, width), (_, high, wide) = bucket.latent, self.config.patch_size
            self._costs[key] = forward_flops(
                self.config, (frames, height // high, width // wide),
                batch=samples, cond_frames=cond_frames, text_tokens=self.config.text_tokens,
            )  # fmt: skip
        return self._costs[key]

    def _conditions(self, bucket: Bucket, task: Task) -> list[int]:
        """Return the numbers of clean latent frames that a micro-batch may have."""
        fits = [f for f in self.tasks.condition_frames if f < bucket.frames] if task == "continuation" else [1]
        return [latent_condition(task, f) for f in fits]

    def _cond_frames(self, bucket: int, task: int, serial: int) -> int:
        can = self._conditions(self.plan.buckets[bucket], self.names[task])
        at = uniform(np.array([serial]), key_of(self.seed, CONDITION))
        return can[int(at[0] * len(can))]

    # --- validation --------------------------------------------------------------------------------------------------

    def _largest(self, rows: np.ndarray, t: int) -> np.ndarray:
        """Bucket of each row for task t in the largest size it can do, -1 for none."""
        reach = np.asarray(self.chances[self.plan.pattern[rows], t] > 0)
        size = reach.shape[1] - 1 - reach[:, ::-1].argmax(1)
        table = self.plan.image if self.names[t] == "t2i" else self.plan.video
        return np.where(reach.any(1), table[rows, size], -1)

    def _validation_batches(self, t: int, bucket: int, rows: np.ndarray, keys: np.ndarray) -> list[MicroBatch]:
        task, place = self.names[t], self.plan.buckets[bucket]
        cond = latent_condition(task, next((f for f in self.tasks.condition_frames if f < place.frames), 1))
        seeds = mix(keys + np.uint64(t)) >> np.uint64(1)
        draws = [
            Draw(self.clip_ids[int(r)].as_py(), n, int(seed), int(r))
            for n, (r, seed) in enumerate(zip(rows, seeds, strict=True))
        ]
        size = self.capacity(place)
        return [MicroBatch(place, task, cond, draws[n : n + size], True) for n in range(0, len(draws), size)]


def latent_condition(task: Task, frames: int) -> int:
    """Clean latent frames of a task; frames: clean pixel frames of a continuation."""
    return {"t2i": 0, "t2v": 0, "i2v": 1, "continuation": (frames - 1) // STRIDE[0] + 1}[task]


def caption_choice(seed: int, captions: int, dropout: float) -> int:
    """Return which of a clip's captions a draw gets, by the draw's seed alone.

    `captions`, one past the last, stands for the empty one.
    """
    pick, drop = mix(np.array([seed, seed + 1], np.uint64) * np.uint64(2) + np.uint64(0x5EED)).tolist()
    return captions if drop < dropout * 2**64 else pick % captions
