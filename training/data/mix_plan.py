"""What a plan of several snapshots does otherwise than a plan of one.

Rows are in the order of snapshots, then of ids, so that each snapshot is one piece of the cumulated draws: a pass takes
its share of draws from it, to within one. Clips are held out over all snapshots together, so what one holds out no
other trains on, and neither does it train on another cut of the same frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelwright.training.data.holdout import held_out
from reelwright.training.data.mix_rows import FRAMES, SNAPSHOT
from reelwright.training.data.spool import stretches, tally
from reelwright.training.errors import TrainError


@dataclass(frozen=True)
class MixedRows:
    """Rows of several snapshots, by SNAPSHOT and id.

    names: of the snapshots, by their number. shares: of each. of: int [N], each row's snapshot. clip: int [N], number
    of each row's clip among the distinct ones, which are in the order of their first rows.
    """

    names: tuple[str, ...]
    shares: np.ndarray
    of: np.ndarray
    clip: np.ndarray

    @classmethod
    def read(cls, rows: pa.Table, mix: Mapping[str, float]) -> MixedRows | None:
        """Return what rows say of their snapshots; None where there is one."""
        if SNAPSHOT not in rows.schema.names:
            return None
        names = tuple(sorted(mix))
        clip = rows.column("clip_id").combine_chunks().dictionary_encode().indices.to_numpy()
        return cls(names, np.array([mix[n] for n in names]), rows.column(SNAPSHOT).to_numpy(), clip)

    @property
    def first(self) -> np.ndarray:
        """First row of each distinct clip."""
        return np.unique(self.clip, return_index=True)[1]

    def rates(self, weights: np.ndarray) -> np.ndarray:
        """Return by how much the weights of each snapshot are multiplied, so that they sum to its share.

        weights: of the rows, 0 where a row is not trained on.

        Raises:
            TrainError: a snapshot has no clip that is trained on.
        """
        sums = self._sums(weights)
        for name, total in zip(self.names, sums, strict=True):
            if not total > 0:
                raise TrainError(
                    f"no clip of snapshot {name} can be trained on: all are too short, of unknown size, failed or held "
                    "out; change data.frames, tasks or data.holdout, or leave it out of data.mix"
                )
        return self.shares / sums

    def facts(self, trained: np.ndarray, held: np.ndarray) -> tuple[dict[str, Any], ...]:
        """Return counts of each snapshot's rows."""
        counts = [np.bincount(self.of, minlength=len(self.names)), self._sums(trained), self._sums(held)]
        return tuple(
            {"name": n, "share": float(s), "clips": int(a), "train": int(b), "held_out": int(c)}
            for n, s, a, b, c in zip(self.names, self.shares, *counts, strict=True)
        )

    def _sums(self, values: np.ndarray) -> np.ndarray:
        out = np.zeros(len(self.names))
        for here in stretches(len(values)):
            out = tally(out, self.of[here], values[here])
        return out


def hold_out(
    mix: MixedRows | None, ids: pa.Array, sources: pa.Array, usable: np.ndarray, share: float
) -> tuple[Literal["source", "clip"], np.ndarray]:
    """Return what is held out, of all snapshots together; see `holdout.held_out`."""
    if mix is None:
        return held_out(ids, sources, usable, share)
    first, any_usable = pa.array(mix.first), np.zeros(mix.clip.max() + 1, bool)
    np.logical_or.at(any_usable, mix.clip, usable)
    kind, held = held_out(ids.take(first), sources.take(first), any_usable, share)
    return kind, held[mix.clip]


def overlapping(rows: pa.Table, held: np.ndarray) -> np.ndarray:
    """Return which rows show frames of a clip that is held out, though they are another clip, bool [N].

    Snapshots of different versions may have cut one source twice. rows: with FRAMES, or else nothing overlaps.
    """
    out = np.zeros(len(held), bool)
    if FRAMES[0] not in rows.schema.names or not held.any():
        return out
    start, end = (rows.column(name).fill_null(-1).to_numpy() for name in FRAMES)
    source = pc.fill_null(rows.column("source_md5").combine_chunks(), "").dictionary_encode()
    codes, unknown = source.indices.to_numpy(), source.dictionary.to_pylist()
    order = np.argsort(codes, kind="stable")
    bounds = np.searchsorted(codes[order], np.arange(len(unknown) + 1))
    for code in np.unique(codes[held]).tolist():
        if not unknown[code]:
            continue
        mine = order[bounds[code] : bounds[code + 1]]
        kept = mine[held[mine]]
        meets = (start[mine][:, None] < end[kept][None]) & (end[mine][:, None] > start[kept][None])
        out[mine] |= meets.any(1)
    return out & ~held


def lines(facts: tuple[dict[str, Any], ...], draws: int) -> list[str]:
    """Return a line for each snapshot of a mix. draws: of a pass."""
    width = max((len(one["name"]) for one in facts), default=0)
    return [
        f"  {one['name']:{width}} {one['share']:6.1%}: {one['clips']:,} clips, {one['train']:,} to train on, "
        f"{one['held_out']:,} held out; each is drawn {one['share'] * draws / one['train']:,.2f} times in a pass of "
        f"{draws:,} samples"
        for one in facts
    ]
