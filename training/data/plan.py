"""What a schedule needs to know of every clip, as columns: made once per run, and mapped from a file by all ranks.

A row per clip, in the order of ids:

| column | holds |
|---|---|
| `clip_id`, `source_md5` | text |
| `state` | uint8: 0 not used, 1 trained on, 2 held out |
| `edge` | float64: draws per pass up to this row, cumulated; they sum to the number of training clips |
| `pattern` | int16: which tasks and sizes the clip can do, a row of `Facts.chances` |
| `length` | int32: frames at the recipe's rate |
| `image`, `video` | int16 per size class: the clip's bucket there, -1 for none |
| `captions` | the clip's captions, at least one |
| `snapshot` | int16, of several snapshots alone: the row's snapshot, by place in the order of names |
| `clip` | int32, of several snapshots alone: the row's clip; rows of one clip have the same |

Rows of several snapshots are in the order of these, then of ids; a clip has a row of each snapshot that it is in.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelwright.training.batch import TASKS, Task
from reelwright.training.data.buckets import FILLED, Assignment, Bucket, assign, size_order
from reelwright.training.data.holdout import hashes
from reelwright.training.data.mapped import map_table, write_table
from reelwright.training.data.mix_plan import MixedRows, hold_out, overlapping, sort_keys
from reelwright.training.data.mix_rows import SNAPSHOT
from reelwright.training.data.rows import HASH, caption_note, hashed, hashes_of
from reelwright.training.errors import TrainError
from reelwright.training.recipe import MOST_VALIDATED, DataConfig, TaskConfig

UNUSED, TRAINED, HELD_OUT = 0, 1, 2
OVERLAPPING = "that share frames with a clip held out"
OWN_RATE = 0.99
"""Of a rate that a clip must have to be of that rate: 29.97 frames per second are 30."""
NOTE = "reelwright.plan"


@dataclass(frozen=True)
class Facts:
    """Facts of all clips together.

    unused: reason -> clips. chances: float [patterns, tasks, sizes], probability of each draw. expected: float
    [buckets, tasks], draws per pass.
    """

    clips: int
    train: int
    held_out: int
    held_out_by: str
    enlarged: int
    unused: dict[str, int]
    failed: tuple[str, ...]
    chances: list[list[list[float]]]
    expected: list[list[float]]
    parts: tuple[dict[str, Any], ...] = ()
    """Of several snapshots, each one's name, share and counts of clips."""
    note: str = ""
    """Of clips whose captions say nothing of what is seen."""
    validated: tuple[int, ...] = ()
    """Rows of held-out clips by the hash of their ids, each clip once, `MOST_VALIDATED` at most: a run validates on the
    first of them."""


@dataclass(frozen=True)
class Plan:
    """Columns of the clips (see above), and what is known of all of them."""

    table: pa.Table
    facts: Facts
    buckets: list[Bucket]
    tasks: list[Task]
    path: Path | None = None
    """The file that the columns are mapped from."""
    edges: np.ndarray = field(init=False, repr=False, compare=False)
    lengths: np.ndarray = field(init=False, repr=False, compare=False)
    state: np.ndarray = field(init=False, repr=False, compare=False)
    pattern: np.ndarray = field(init=False, repr=False, compare=False)
    image: np.ndarray = field(init=False, repr=False, compare=False)
    video: np.ndarray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not len(self.table):
            raise TrainError("the snapshot has no clips; make one with: reel snapshot create NAME --sql '…'")
        for name, column in (("edges", "edge"), ("lengths", "length"), ("state", "state"), ("pattern", "pattern")):
            object.__setattr__(self, name, self.table.column(column).chunk(0).to_numpy())
        for name in ("image", "video"):
            flat = self.table.column(name).chunk(0)
            object.__setattr__(self, name, flat.values.to_numpy().reshape(len(flat), -1))

    def __reduce__(self) -> tuple[Any, ...]:
        """Send a mapped plan as its address."""
        if self.path is None:
            return Plan, (self.table, self.facts, self.buckets, self.tasks)
        return read_plan, (self.path,)

    @property
    def clip_ids(self) -> pa.Array:
        """Ids of the clips, by row."""
        return self.table.column("clip_id").chunk(0)

    @cached_property
    def snapshot(self) -> np.ndarray | None:
        """Snapshot of each row, by place in the order of names; None where there is one."""
        return self._ints(SNAPSHOT)

    @cached_property
    def clip(self) -> np.ndarray | None:
        """Number of each row's clip among `distinct_ids`; None where each row is a clip of its own."""
        return self._ints("clip")

    @property
    def distinct_ids(self) -> pa.Array:
        """Ids of the clips, each once."""
        return self.clip_ids if self.clip is None else self.clip_ids.take(np.unique(self.clip, return_index=True)[1])

    def clips_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the place among `distinct_ids` of the clip of each row."""
        return rows if self.clip is None else self.clip[rows]

    def each_once(self, rows: np.ndarray) -> np.ndarray:
        """Return rows without those of a clip that an earlier one is of."""
        return _each_once(self.clip, rows)

    def _ints(self, column: str) -> np.ndarray | None:
        return self.table.column(column).chunk(0).to_numpy() if column in self.table.schema.names else None

    @property
    def sizes(self) -> int:
        """Size classes."""
        return self.image.shape[1]

    def captions_of(self, row: int) -> list[Any]:
        """Return the captions of a clip, at least one: texts, or the 16 bytes of each one's hash."""
        if "captions" not in self.table.schema.names:
            return [""]
        return self.table.column("captions")[row].as_py() or [""]

    def captions(self) -> list[Any]:
        """Return every caption that may be wanted, each once, the empty one first; as `captions_of` has them."""
        return ["", *(c for c in self.caption_values().to_pylist() if c != "")]

    def caption_values(self) -> pa.Array:
        """Return the captions that may be wanted, each once; one of them is empty (or the hash of nothing)."""
        if "captions" not in self.table.schema.names:
            return pa.array([""])
        used = self.table.column("captions").take(pa.array(np.flatnonzero(self.state != UNUSED)))
        values = pc.list_flatten(used).unique()
        empty = pa.array([""], pa.large_string())
        return pa.concat_arrays([values, hashes_of(empty) if values.type == HASH else empty.cast(values.type)]).unique()

    def with_hashes(self) -> Plan:
        """Return the plan with hashes in place of its captions."""
        if "captions" not in self.table.schema.names:
            return self
        at = self.table.schema.get_field_index("captions")
        table = self.table.set_column(at, "captions", hashed(self.table.column("captions").combine_chunks()))
        return Plan(table, self.facts, self.buckets, self.tasks)


def plan_of(rows: pa.Table, data: DataConfig, tasks: TaskConfig, failed: Collection[str] = ()) -> Plan:
    """Make the plan of a snapshot's clips.

    Args:
        rows: `snapshot_rows`, in any order.
        data: of the recipe.
        tasks: of the recipe.
        failed: ids of clips to leave out.

    Raises:
        TrainError: no clip can be trained on.
    """
    rows = _large(rows).sort_by(sort_keys(rows))
    mix = MixedRows.read(rows, data.mix)
    width, height, frames = _shape_of(rows, data.fps)
    others = {rate: _frames_at(rows, rate, whole=_doubles(data, rate)) for rate in {*data.rates.values()} - {data.fps}}
    if _doubles(data, data.fps):
        others[data.fps] = _frames_at(rows, data.fps, whole=True)
    assigned = assign(np.maximum(width, 1), np.maximum(height, 1), frames, data, at_rate=others)
    names: list[Task] = [task for task in TASKS if getattr(tasks, task) > 0]
    known, ids = width * height > 0, rows.column("clip_id").combine_chunks()
    lost = pc.is_in(ids, value_set=pa.array(sorted(failed), ids.type)).to_numpy(zero_copy_only=False)
    can = _can(assigned, tasks, names) & (known & ~lost)[:, None, None]
    pattern, chances = _chances(can, np.array([getattr(tasks, t) for t in names]), _size_weights(data, can.shape[2]))
    usable = np.asarray(can.any((1, 2)))
    why = {
        "of unknown size": ~known,
        "failed to encode": known & lost,
        "too short for the tasks": known & ~lost & ~usable,
    }
    unused = {reason: int(which.sum()) for reason, which in why.items() if which.any()}
    sources = _column(rows, "source_md5")
    holdout_by, is_held = hold_out(mix, ids, sources, usable, data.holdout)
    if mix and (twice := overlapping(rows, is_held) & usable).any():
        unused[OVERLAPPING], usable = int(twice.sum()), usable & ~twice
    trained = usable & ~is_held
    if not trained.any():
        reasons = "; ".join(f"{n} {reason}" for reason, n in unused.items()) or "the snapshot is empty"
        raise TrainError(f"no clip of the snapshot can be trained on ({reasons}); change data.frames or tasks")
    draws = _draws(rows, trained, mix)
    facts = Facts(
        clips=len(rows), train=int(trained.sum()), held_out=int((usable & is_held).sum()), held_out_by=holdout_by,
        enlarged=int((assigned.scale[:, 0] > 1 / FILLED).sum()), unused=unused, failed=tuple(sorted(failed)),
        chances=chances.tolist(), expected=_expected(draws, pattern, chances, assigned, names).tolist(),
        parts=mix.facts(trained, usable & is_held) if mix else (),
        note=caption_note(rows) if "only_composed" in rows.schema.names else "",
        validated=_validated(ids, _each_once(mix.clip if mix else None, np.flatnonzero(usable & is_held))),
    )  # fmt: skip
    columns = {
        "clip_id": ids, "source_md5": sources,
        "state": pa.array(np.where(trained, TRAINED, np.where(usable, HELD_OUT, UNUSED)).astype(np.uint8)),
        "edge": pa.array(_edges(draws, facts.train)), "length": pa.array(frames.astype(np.int32)),
        "pattern": pa.array(pattern.astype(np.int16)),
        "image": _lists(assigned.image), "video": _lists(assigned.video),
    }  # fmt: skip
    if "captions" in rows.schema.names:
        columns["captions"] = rows.column("captions").combine_chunks()
    if mix:
        columns |= {SNAPSHOT: pa.array(mix.of.astype(np.int16)), "clip": pa.array(mix.clip.astype(np.int32))}
    return Plan(pa.table(columns).combine_chunks(), facts, assigned.buckets, names)


def write_plan(plan: Plan, path: Path, key: dict[str, Any]) -> None:
    """Write a plan as a file that `read_plan` maps. key: what it was made from."""
    buckets = [[b.frames, b.height, b.width] for b in plan.buckets]
    about = {"key": key, "facts": asdict(plan.facts), "buckets": buckets, "tasks": plan.tasks}
    write_table(plan.table, path, NOTE, about)


def read_plan(path: Path) -> Plan:
    """Map a plan. A process that it is sent to maps it too."""
    table, about = map_table(path, NOTE)
    said = about["facts"]
    facts = Facts(**{**said, **{name: tuple(said[name]) for name in ("failed", "parts", "validated")}})
    return Plan(table, facts, [Bucket(*sides) for sides in about["buckets"]], about["tasks"], path)


def _large(rows: pa.Table) -> pa.Table:
    """Let text columns be longer than 2 GiB, in one piece."""
    types = {pa.string(): pa.large_string(), pa.list_(pa.string()): pa.list_(pa.large_string())}
    return rows.cast(pa.schema([field.with_type(types.get(field.type, field.type)) for field in rows.schema]))


def _each_once(clip: np.ndarray | None, rows: np.ndarray) -> np.ndarray:
    """clip: number of each row's clip; None: each row is a clip of its own."""
    return rows if clip is None else rows[np.sort(np.unique(clip[rows], return_index=True)[1])]


def _validated(ids: pa.Array, held: np.ndarray) -> tuple[int, ...]:
    order = np.argsort(hashes(ids.take(held).to_pylist()), kind="stable")
    return tuple(held[order[:MOST_VALIDATED]].tolist())


def _draws(rows: pa.Table, trained: np.ndarray, mix: MixedRows | None) -> np.ndarray:
    """Return the expected draws of each row in a pass: they sum to the training clips."""
    weights = np.where(trained, _column(rows, "weight").to_numpy(zero_copy_only=False).astype(float), 0)
    if mix:
        return mix.draws(weights, trained)
    return weights * (trained.sum() / weights.sum())


def _edges(draws: np.ndarray, clips: int) -> np.ndarray:
    edges = np.cumsum(draws)
    return edges * (clips / edges[-1])


def _expected(
    draws: np.ndarray, pattern: np.ndarray, chances: np.ndarray, assigned: Assignment, names: Sequence[Task]
) -> np.ndarray:
    """[buckets, tasks]: draws per pass."""
    out = np.zeros((len(assigned.buckets), len(names)))
    for t, task in enumerate(names):
        table = assigned.image if task == "t2i" else assigned.video
        for size in range(table.shape[1]):
            here = table[:, size] >= 0
            weights = (draws * chances[pattern, t, size])[here]
            out[:, t] += np.bincount(table[here, size], weights=weights, minlength=len(out))
    return out


def _lists(table: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(table.astype(np.int16).ravel()), table.shape[1])


def _can(assigned: Assignment, tasks: TaskConfig, names: Sequence[Task]) -> np.ndarray:
    """[N, tasks, sizes]: what each clip can be drawn for."""
    shortest = min(tasks.condition_frames, default=0)
    frames = np.array([b.frames for b in assigned.buckets] + [0])
    video, image = assigned.video >= 0, assigned.image >= 0
    long = video & (frames[assigned.video] > shortest) if tasks.condition_frames else video & False
    can = {"t2i": image, "t2v": video, "i2v": video, "continuation": long}
    return np.stack([can[t] for t in names], 1)


def _size_weights(data: DataConfig, sizes: int) -> np.ndarray:
    """In the order of an `Assignment`: from the smallest class on."""
    if not data.size_weights or len(data.sizes) != sizes:
        return np.ones(sizes)
    return np.array(data.size_weights)[size_order(data)]


def _chances(can: np.ndarray, tasks: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pattern of each clip [N] and each pattern's probability of a task × size [P, tasks, sizes].

    A task is drawn by its weight among the tasks that the clip can do, then a size by its weight.
    """
    flat = can.reshape(len(can), -1)
    bits = flat @ (1 << np.arange(flat.shape[1]))
    _, first, pattern = np.unique(bits, return_index=True, return_inverse=True)
    some = can[first]
    by_size = some * sizes
    by_size = by_size / np.maximum(by_size.sum(2, keepdims=True), 1e-300)
    by_task = some.any(2) * tasks
    by_task = by_task / np.maximum(by_task.sum(1, keepdims=True), 1e-300)
    return pattern, by_task[:, :, None] * by_size


def _shape_of(rows: pa.Table, rate: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Width and height (0 where unknown) and frames at `rate` of every clip."""
    return _numbers(rows, "width"), _numbers(rows, "height"), _frames_at(rows, rate)


def _frames_at(rows: pa.Table, rate: float, *, whole: bool = False) -> np.ndarray:
    """Frames of every clip at a rate: `buckets.samples`, of all. whole: 0 for a slower clip, which repeats some."""
    count, fps = _numbers(rows, "num_frames"), _numbers(rows, "fps")
    frames = np.maximum(1, np.rint(count * rate / np.where(fps > 0, fps, np.inf)).astype(np.int64))
    return np.where(fps < OWN_RATE * rate, 0, frames) if whole else frames


def _doubles(data: DataConfig, rate: float) -> bool:
    """Whether pairs have twice the first stage's rate: every other frame is to be made, so none may be a copy."""
    return data.pair is not None and round(rate / data.pair.fps) == 2


def _numbers(rows: pa.Table, name: str) -> np.ndarray:
    return _column(rows, name).fill_null(0).to_numpy(zero_copy_only=False).astype(float)


def _column(rows: pa.Table, name: str) -> pa.Array:
    if name not in rows.schema.names:
        return pa.nulls(rows.num_rows, pa.large_string() if name == "source_md5" else pa.float64())
    return rows.column(name).combine_chunks()
