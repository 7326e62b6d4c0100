"""What each clip costs a run: the losses of its samples by noise level, for clips that a network cannot learn.

Ranks keep the losses of their samples on the device and write them, without a word to one another, before a checkpoint
is saved: RUN/clip_losses/step-00000100/rank-00003.arrow has the samples of this rank since the checkpoint before. A
checkpoint that is complete has them all, and a run that goes on forgets the folders of later steps, which it makes
again: no sample is counted twice or lost. Whoever started the run takes the folders of steps that are saved.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from reelwright.training.batch import Batch
from reelwright.training.data.mapped import map_table, write_table
from reelwright.training.distributed.world import World
from reelwright.training.objectives.base import Loss

FOLDER, NOTE = "clip_losses", "clip_losses"
ALL = "all"
"""Name of the band that holds every noise level."""
NEAREST = 20
"""Samples of the nearest noise levels, at least, that a sample's loss is compared with."""
SHARE = 0.05
"""Of all samples: the same, where they are many."""
KIND_CLIPS = 8.0
"""Clips at which samples of one kind (task, shape, with or without a caption) count as much as those of every kind."""


@dataclass(frozen=True)
class _Seen:
    step: int
    micro: int
    clip_ids: list[str]
    kinds: list[str]
    losses: Tensor
    t: Tensor


class ClipLosses:
    """The losses of one rank's samples."""

    def __init__(self, run: Path, bands: int, world: World) -> None:
        """bands: equal bands of t that clips' losses are kept by."""
        self.folder, self.bands, self.world = run / FOLDER, bands, world
        self._seen: list[_Seen] = []

    def drop_after(self, step: int) -> None:
        """Forget the samples of steps that a run, which goes on after `step`, will do again."""
        if self.world.is_first:  # the others write nothing before they have made a step with this rank
            for later in (path for number, path in written(self.folder) if number > step):
                shutil.rmtree(later)

    def see(self, batch: Batch, loss: Loss) -> None:
        """Keep the losses of a micro-batch where they are: nothing waits for the device."""
        kind = f"{batch.task} {batch.bucket}"
        dropped = batch.dropped or (False,) * len(batch.clip_ids)
        kinds = [f"{kind} without a caption" if one else kind for one in dropped]
        t = loss.t.detach()
        self._seen.append(_Seen(batch.step, batch.micro, batch.clip_ids, kinds, loss.per_sample.detach(), t))

    def write(self, step: int) -> None:
        """Write the samples of the first `step` steps; a step that was given up half done is left out."""
        done, self._seen = [one for one in self._seen if one.step < step], []
        if not done:
            return
        sizes = [len(one.clip_ids) for one in done]
        samples = pa.table({
            "step": pa.array(np.repeat([one.step + 1 for one in done], sizes), pa.int64()),
            "micro": pa.array(np.repeat([one.micro for one in done], sizes), pa.int32()),
            "place": pa.array(np.concatenate([np.arange(size) for size in sizes]), pa.int32()),
            "clip_id": pa.array([name for one in done for name in one.clip_ids], pa.string()),
            "kind": pa.array([kind for one in done for kind in one.kinds], pa.string()),
            "loss": pa.array(torch.cat([one.losses.double() for one in done]).cpu().numpy(), pa.float64()),
            "t": pa.array(torch.cat([one.t.double() for one in done]).cpu().numpy(), pa.float64()),
        })  # fmt: skip
        path = self.folder / f"step-{step:08d}" / f"rank-{self.world.rank:05d}.arrow"
        write_table(samples, path, NOTE, {"bands": self.bands, "parts": self.world.context_size})


def written(folder: Path) -> list[tuple[int, Path]]:
    """Return (step, folder) of the samples that a run has written, the earliest first. folder: RUN/clip_losses."""
    return sorted((int(path.name.removeprefix("step-")), path) for path in folder.glob("step-*") if path.is_dir())


def read_by_clip(path: Path) -> pa.Table:
    """Read one folder of samples: a row per clip and band, and per clip with the band `all`.

    Returns:
        clip_id, band, loss, relative, draws, not_finite, first_step, last_step: as the table `clip_losses` of a store.
    """
    samples, bands = _samples(path)
    if not samples.num_rows:
        raise ValueError(f"{path} holds no samples")
    return by_clip(samples, bands)


def by_clip(samples: pa.Table, bands: int) -> pa.Table:
    """Average samples by clip and band of t. A loss that is not finite is counted, and is in no mean.

    Args:
        samples: step, clip_id, kind, loss and t of each.
        bands: equal bands of t.

    Returns:
        A row per clip and band, the clips sorted, with `relative`: the sum of its losses over the sum of `expected`.
    """
    loss, t = (samples.column(name).to_numpy() for name in ("loss", "t"))
    coded = samples.column("clip_id").combine_chunks().dictionary_encode()
    names = np.array(coded.dictionary.to_pylist(), dtype=object)
    order = np.argsort(names.astype(str), kind="stable")
    clips = np.argsort(order)[coded.indices.to_numpy()]
    kinds = samples.column("kind").combine_chunks().dictionary_encode().indices.to_numpy()
    finite = np.isfinite(loss)
    usual = np.ones(len(loss))
    usual[finite] = expected(loss[finite], t[finite], kinds[finite], clips[finite])
    own = np.minimum((t * bands).astype(np.int64), bands - 1)
    groups = np.concatenate([clips * (bands + 1) + own, clips * (bands + 1) + bands])  # its band, and all of them
    twice = np.concatenate([np.arange(len(loss))] * 2)
    cells, at = np.unique(groups, return_inverse=True)

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(at, np.where(finite, values, 0.0)[twice], len(cells))

    draws, losses, usuals = total(np.ones(len(loss))), total(loss), total(usual)
    shown = [f"{i / bands:.2f}-{(i + 1) / bands:.2f}" for i in range(bands)] + [ALL]
    steps = samples.column("step").to_numpy()
    return pa.table({
        "clip_id": pa.array(names[order][cells // (bands + 1)].tolist(), pa.string()),
        "band": pa.array([shown[i] for i in cells % (bands + 1)], pa.string()),
        "loss": _ratio(losses, draws),
        "relative": _ratio(losses, usuals),
        "draws": pa.array(draws.astype(np.int64)),
        "not_finite": pa.array(np.bincount(at, (~finite)[twice], len(cells)).astype(np.int64)),
        "first_step": pa.array(np.full(len(cells), steps.min())),
        "last_step": pa.array(np.full(len(cells), steps.max())),
    })  # fmt: skip


def expected(loss: np.ndarray, t: np.ndarray, kinds: np.ndarray, clips: np.ndarray) -> np.ndarray:
    """Return what each sample would cost if its clip were like the others: the mean loss at like noise levels.

    The mean is over the samples of the nearest levels: of the sample's own kind, as far as that has several clips, else
    of every kind, since a kind that a single clip makes up would be compared with itself.

    Args:
        loss: of the samples, [N], finite.
        t: noise levels, [N].
        kinds: number of each sample's kind, [N].
        clips: number of each sample's clip, [N].
    """
    every = _mean_near(loss, t)
    out = every.copy()
    for kind in np.unique(kinds):
        own = np.flatnonzero(kinds == kind)
        count = len(np.unique(clips[own]))
        weight = count / (count + KIND_CLIPS)
        out[own] = weight * _mean_near(loss[own], t[own]) + (1 - weight) * every[own]
    return out


def _mean_near(loss: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Mean loss over the samples around each in the order of t, [N]; at either end over those that are there."""
    order = np.argsort(t, kind="stable")
    half = max(NEAREST, int(SHARE * len(t))) // 2
    sums = np.concatenate([[0.0], np.cumsum(loss[order])])
    places = np.arange(len(t))
    first, last = np.maximum(places - half, 0), np.minimum(places + half + 1, len(t))
    out = np.empty(len(t))
    out[order] = (sums[last] - sums[first]) / (last - first)
    return out


def _ratio(sums: np.ndarray, of: np.ndarray) -> pa.Array:
    """Divide; null where nothing was summed."""
    some = of > 0
    return pa.array(np.divide(sums, of, out=np.zeros(len(of)), where=some), pa.float64(), mask=~some)


def _samples(path: Path) -> tuple[pa.Table, int]:
    """Read (samples of all ranks, bands). Strips of a sample, which a context group shares, are put together."""
    parts = list(_parts(path))
    bands, strips = parts[0][1], parts[0][2]
    table = pa.concat_tables([part for part, *_ in parts])
    if strips == 1:
        return table, bands
    whole = table.group_by(["step", "micro", "place", "clip_id", "kind"])
    merged = whole.aggregate([("loss", "sum"), ("t", "max"), ("loss", "count")])
    return merged.rename_columns(["step", "micro", "place", "clip_id", "kind", "loss", "t", "strips"]), bands


def _parts(path: Path) -> Iterator[tuple[pa.Table, int, int]]:
    for file in sorted(path.glob("rank-*.arrow")):
        table, note = map_table(file, NOTE)
        yield table, note["bands"], note["parts"]
