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

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelwright.training.batch import Task
from reelwright.training.data.buckets import Bucket
from reelwright.training.data.mapped import map_table, write_table
from reelwright.training.data.mix_rows import SNAPSHOT
from reelwright.training.data.rows import HASH, hashes_of
from reelwright.training.data.spool import stretches
from reelwright.training.errors import TrainError

UNUSED, TRAINED, HELD_OUT = 0, 1, 2
OVERLAPPING = "that share frames with a clip held out"
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
        return each_once(self.clip, rows)

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
        return pa.chunked_array(list(self.caption_parts())).unique()

    def caption_parts(self) -> Iterator[pa.Array]:
        """Yield the captions that may be wanted, some rows' at a time; the empty one (or its hash) first."""
        if "captions" not in self.table.schema.names:
            yield pa.array([""], pa.large_string())
            return
        captions = self.table.column("captions").chunk(0)
        empty = pa.array([""], pa.large_string())
        yield hashes_of(empty) if captions.type.value_type == HASH else empty.cast(captions.type.value_type)
        for here in stretches(len(captions)):
            used = np.flatnonzero(self.state[here] != UNUSED) + here.start
            yield pc.list_flatten(captions.take(pa.array(used))).unique()


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


def each_once(clip: np.ndarray | None, rows: np.ndarray) -> np.ndarray:
    """clip: number of each row's clip; None: each row is a clip of its own."""
    return rows if clip is None else rows[np.sort(np.unique(clip[rows], return_index=True)[1])]
