"""Makes the plan of a snapshot's clips, a stretch of rows at a time: the columns of a hundred million fit no memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelwright.training.batch import TASKS, Task
from reelwright.training.data.buckets import FILLED, Assignment, Bucket, assign, size_order
from reelwright.training.data.holdout import hashes
from reelwright.training.data.mix_plan import MixedRows, hold_out, overlapping
from reelwright.training.data.mix_rows import SNAPSHOT, order_of
from reelwright.training.data.plan import HELD_OUT, OVERLAPPING, TRAINED, UNUSED, Facts, Plan, each_once
from reelwright.training.data.rows import caption_note
from reelwright.training.data.spool import scratch, stretches, tally, total
from reelwright.training.errors import TrainError
from reelwright.training.recipe import MOST_VALIDATED, DataConfig, TaskConfig

OWN_RATE = 0.99
"""Of a rate that a clip must have to be of that rate: 29.97 frames per second are 30."""
REASONS = ("of unknown size", "failed to encode", "too short for the tasks")


def plan_of(rows: pa.Table, data: DataConfig, tasks: TaskConfig, failed: Collection[str] = ()) -> Plan:
    """Make the plan of a snapshot's clips.

    Args:
        rows: `snapshot_rows`, in any order; those of `training_rows`, which are in a plan's, are not copied.
        data: of the recipe.
        tasks: of the recipe.
        failed: ids of clips to leave out.

    Raises:
        TrainError: no clip can be trained on.
    """
    rows = _in_order(rows)
    mix = MixedRows.read(rows, data.mix)
    names: list[Task] = [task for task in TASKS if getattr(tasks, task) > 0]
    fit = _fit(rows, data, tasks, names, failed)
    ids, sources = _column(rows, "clip_id"), _column(rows, "source_md5")
    held_out_by, held = hold_out(mix, ids, sources, fit.usable, data.holdout)
    state, unused = _states(rows, fit.usable, held, mix), dict(fit.unused)
    counts = np.zeros(3, np.int64)
    for here in stretches(len(rows)):
        counts += np.bincount(state[here], minlength=3)
    train = int(counts[TRAINED])
    if twice := int(counts[UNUSED]) - sum(unused.values()):
        unused[OVERLAPPING] = twice
    if not train:
        reasons = "; ".join(f"{n} {reason}" for reason, n in unused.items()) or "the snapshot is empty"
        raise TrainError(f"no clip of the snapshot can be trained on ({reasons}); change data.frames or tasks")
    chances = _chances(fit.can, np.array([getattr(tasks, t) for t in names]), _size_weights(data, fit.can.shape[2]))
    draws = _draws(rows, state, train, mix)
    facts = Facts(
        clips=len(rows), train=train, held_out=int(counts[HELD_OUT]), held_out_by=held_out_by,
        enlarged=fit.enlarged, unused=unused, failed=tuple(sorted(failed)),
        chances=chances.tolist(), expected=_expected(draws, fit, chances, names).tolist(),
        parts=mix.facts(state == TRAINED, state == HELD_OUT) if mix else (),
        note=caption_note(rows) if "only_composed" in rows.schema.names else "",
        validated=_validated(ids, state, mix.clip if mix else None),
    )  # fmt: skip
    columns = {
        "clip_id": ids, "source_md5": sources, "state": _numbers_of(state),
        "edge": _numbers_of(_edges(draws, facts)), "length": _numbers_of(fit.length),
        "pattern": _numbers_of(fit.pattern), "image": _lists(fit.image), "video": _lists(fit.video),
    }  # fmt: skip
    if "captions" in rows.schema.names:
        columns["captions"] = _column(rows, "captions")
    if mix:
        columns |= {SNAPSHOT: pa.array(mix.of.astype(np.int16)), "clip": pa.array(mix.clip.astype(np.int32))}
    return Plan(pa.table(columns), facts, fit.buckets, names)


@dataclass(frozen=True)
class _Fit:
    """What N clips can be drawn for, of S size classes.

    can: bool [patterns, tasks, S]. usable: bool [N]. pattern, length: int [N]. image, video: int16 [N, S]. unused:
    reason -> clips. enlarged: clips.
    """

    buckets: list[Bucket]
    can: np.ndarray
    usable: np.ndarray
    pattern: np.ndarray
    length: np.ndarray
    image: np.ndarray
    video: np.ndarray
    unused: dict[str, int]
    enlarged: int


Draws = Callable[[slice], np.ndarray]
"""Expected draws of some rows in a pass; those of all sum to the training clips."""


def _in_order(rows: pa.Table) -> pa.Table:
    """Return rows in the order of a plan's, with long texts, each column in one piece."""
    by = order_of(rows.schema)
    if not _is_large(rows) or not _is_ordered(rows, by):
        rows = _large(rows).sort_by([(name, "ascending") for name in by]).combine_chunks()
    return rows


def _is_large(rows: pa.Table) -> bool:
    return all(column.num_chunks == 1 for column in rows.columns) and _large(rows.schema.empty_table()).schema.equals(
        rows.schema
    )


def _is_ordered(rows: pa.Table, by: Sequence[str]) -> bool:
    for here in stretches(len(rows)):
        some = rows.select(by).slice(max(here.start - 1, 0), here.stop - max(here.start - 1, 0))
        ordered = pa.array(np.ones(max(len(some) - 1, 0), bool))
        for name in reversed(by):  # greater, or as great and the next ones ordered
            before, after = some.column(name)[:-1], some.column(name)[1:]
            ordered = pc.or_(pc.greater(after, before), pc.and_(pc.equal(after, before), ordered))
        if not pc.all(ordered, min_count=0).as_py():
            return False
    return True


def _large(rows: pa.Table) -> pa.Table:
    """Let text columns be longer than 2 GiB, in one piece."""
    types = {pa.string(): pa.large_string(), pa.list_(pa.string()): pa.list_(pa.large_string())}
    return rows.cast(pa.schema([field.with_type(types.get(field.type, field.type)) for field in rows.schema]))


def _fit(rows: pa.Table, data: DataConfig, tasks: TaskConfig, names: Sequence[Task], failed: Collection[str]) -> _Fit:
    count, left_out = len(rows), sorted(failed)
    sizes = _assigned(rows.slice(0, 0), data)[1].image.shape[1]
    usable, bits, length = scratch(count, bool), scratch(count, np.int64), scratch(count, np.int32)
    image, video = scratch((count, sizes), np.int16), scratch((count, sizes), np.int16)
    unused, enlarged, distinct = dict.fromkeys(REASONS, 0), 0, np.empty(0, np.int64)
    for here in stretches(count):
        some = rows.slice(here.start, here.stop - here.start)
        frames, assigned, known = _assigned(some, data)
        ids = _column(some, "clip_id")
        lost = pc.is_in(ids, value_set=pa.array(left_out, ids.type)).to_numpy(zero_copy_only=False)
        can = _can(assigned, tasks, names) & (known & ~lost)[:, None, None]
        flat = can.reshape(len(can), -1)
        usable[here], bits[here], length[here] = flat.any(1), flat @ (1 << np.arange(flat.shape[1])), frames
        image[here], video[here] = assigned.image, assigned.video
        for reason, which in zip(REASONS, (~known, known & lost, known & ~lost & ~usable[here]), strict=True):
            unused[reason] += int(which.sum())
        enlarged += int((assigned.scale[:, 0] > 1 / FILLED).sum())
        distinct = np.union1d(distinct, bits[here])
    pattern = scratch(count, np.int16)
    for here in stretches(count):
        pattern[here] = np.searchsorted(distinct, bits[here])
    can = (distinct[:, None] >> np.arange(len(names) * sizes) & 1).astype(bool).reshape(-1, len(names), sizes)
    some = {reason: number for reason, number in unused.items() if number}
    return _Fit(assigned.buckets, can, usable, pattern, length, image, video, some, enlarged)


def _assigned(rows: pa.Table, data: DataConfig) -> tuple[np.ndarray, Assignment, np.ndarray]:
    """(frames of each clip, its buckets, whether its size is known)."""
    width, height, frames = _shape_of(rows, data.fps)
    others = {rate: _frames_at(rows, rate, whole=_doubles(data, rate)) for rate in {*data.rates.values()} - {data.fps}}
    if _doubles(data, data.fps):
        others[data.fps] = _frames_at(rows, data.fps, whole=True)
    return frames, assign(np.maximum(width, 1), np.maximum(height, 1), frames, data, at_rate=others), width * height > 0


def _states(rows: pa.Table, usable: np.ndarray, held: np.ndarray, mix: MixedRows | None) -> np.ndarray:
    """Return uint8 [N]; a clip that may be used and is not overlaps with one that is held out."""
    state, twice = scratch(len(rows), np.uint8), overlapping(rows, held) if mix else None
    for here in stretches(len(rows)):
        may = usable[here] if twice is None else usable[here] & ~twice[here]
        state[here] = np.where(may, np.where(held[here], HELD_OUT, TRAINED), UNUSED)
    return state


def _validated(ids: pa.Array, state: np.ndarray, clip: np.ndarray | None) -> tuple[int, ...]:
    rows, keys = np.empty(0, np.int64), np.empty(0, np.uint64)
    for here in stretches(len(ids)):
        more = np.flatnonzero(state[here] == HELD_OUT) + here.start
        rows = np.concatenate([rows, more])
        keys = np.concatenate([keys, hashes(ids.take(pa.array(more)).to_pylist())])
        order = np.argsort(keys, kind="stable")
        order = order[np.isin(rows[order], each_once(clip, rows[order]))][:MOST_VALIDATED]
        rows, keys = rows[order], keys[order]
    return tuple(rows.tolist())


def _draws(rows: pa.Table, state: np.ndarray, train: int, mix: MixedRows | None) -> Draws:
    weights, column = scratch(len(rows), np.float64), _column(rows, "weight")
    for here in stretches(len(rows)):
        some = column.slice(here.start, here.stop - here.start).to_numpy(zero_copy_only=False).astype(float)
        weights[here] = np.where(state[here] == TRAINED, some, 0)
    if mix:
        rates = mix.rates(weights)
        return lambda here: weights[here] * rates[mix.of[here]] * train
    rate = train / total(weights)
    return lambda here: weights[here] * rate


def _edges(draws: Draws, facts: Facts) -> np.ndarray:
    edges, last = scratch(facts.clips, np.float64), 0.0
    for here in stretches(facts.clips):
        edges[here] = np.cumsum(np.concatenate([[last], draws(here)]))[1:]
        last = edges[here.stop - 1]
    for here in stretches(facts.clips):
        edges[here] *= facts.train / last
    return edges


def _expected(draws: Draws, fit: _Fit, chances: np.ndarray, names: Sequence[Task]) -> np.ndarray:
    """[buckets, tasks]: draws per pass."""
    sizes = fit.image.shape[1]
    sums = np.zeros((len(names), sizes, len(fit.buckets)))
    for here in stretches(len(fit.usable)):
        pattern, own = fit.pattern[here], draws(here)
        for t, task in enumerate(names):
            table = (fit.image if task == "t2i" else fit.video)[here]
            for size in range(sizes):
                there = table[:, size] >= 0
                weights = (own * chances[pattern, t, size])[there]
                sums[t, size] = tally(sums[t, size], table[there, size], weights)
    out = np.zeros((len(fit.buckets), len(names)))
    for size in range(sizes):
        out += sums[:, size].T
    return out


def _numbers_of(values: np.ndarray) -> pa.Array:
    """Return numbers as a column that shares their memory."""
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), values.size, [None, pa.py_buffer(values)])


def _lists(table: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(_numbers_of(table.reshape(-1)), table.shape[1])


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


def _chances(can: np.ndarray, tasks: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return each pattern's probability of a task × size [P, tasks, sizes].

    A task is drawn by its weight among the tasks that the clip can do, then a size by its weight. can: bool [P, tasks,
    sizes].
    """
    by_size = can * sizes
    by_size = by_size / np.maximum(by_size.sum(2, keepdims=True), 1e-300)
    by_task = can.any(2) * tasks
    by_task = by_task / np.maximum(by_task.sum(1, keepdims=True), 1e-300)
    return by_task[:, :, None] * by_size


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
    column = rows.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
