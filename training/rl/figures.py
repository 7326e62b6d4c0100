"""Figures of a step's rollouts, the same on every rank: scores by reward, advantages, calls, seconds."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from reelwright.training.distributed.world import World
from reelwright.training.rl.advantages import Advantages
from reelwright.training.rl.scores import ScoreTable

if TYPE_CHECKING:
    from reelwright.training.rewards.scoring import Scorer
    from reelwright.training.rl.paths import Paths

SECONDS = ("network_s", "decode_s", "wait_s")
REST = "training_s"
POOL = ("busy_s", "idle_s", "restarts")


class Tally:
    """What a rank counts while it rolls out, from one `read` to the next."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._told: tuple[int, int] = (0, 0)
        self._read_at: float | None = None

    @contextmanager
    def timing(self, name: str) -> Iterator[None]:
        """Add the time within to a name's."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - began

    def read(self, paths: Paths, scorer: Scorer, labels: Sequence[str], world: World) -> dict[str, float]:
        """Return the figures of all ranks since the last call. Every rank calls it.

        Returns:
            `rollout/calls`: guided predictions of one sample; `rollout/calls_unshared`: as many as there would be if
            each sample went its whole way alone. `rollout/network_s`, `decode_s`, `wait_s`: seconds per rank, in the
            mean; wait: for scores, with nothing to compute beside. `rollout/training_s`: the rest of the time since the
            last call, that of the trained passes and of what came between two steps; none at a run's first step.
            `scoring/…`: the scorer's figures, summed over ranks. `scoring/slowest_idle_share`: idle / (busy + idle)
            seconds of the reward that was busy longest, as `Scorer.figures` has them: of the time in which scores of it
            were outstanding, the share that its processes stood idle. Training is not in it, nor a rollout before its
            first videos are made.
        """
        calls = (paths.calls - self._told[0], paths.alone - self._told[1])
        self._told = (paths.calls, paths.alone)
        names = [*POOL, *(f"{label}/{name}" for label in labels for name in POOL)]
        pool = scorer.figures()
        seconds = self._seconds()
        sums = world.sum([*calls, *seconds.values(), *(pool.get(n, 0.0) for n in names)])
        out = {"rollout/calls": sums[0] / world.context_size, "rollout/calls_unshared": sums[1] / world.context_size}
        out |= {f"rollout/{name}": value / world.size for name, value in zip(seconds, sums[2:], strict=False)}
        told = dict(zip(names, sums[2 + len(seconds) :], strict=True))
        slowest = max(labels, key=lambda label: told[f"{label}/busy_s"])
        wall_s = told[f"{slowest}/busy_s"] + told[f"{slowest}/idle_s"]
        told["slowest_idle_share"] = told[f"{slowest}/idle_s"] / wall_s if wall_s else 0.0
        return out | {f"scoring/{name}": value for name, value in told.items()}

    def _seconds(self) -> dict[str, float]:
        """Return this rank's seconds since the last call by name, and forget them."""
        now, before = time.perf_counter(), self._read_at
        found = {name: self.seconds[name] for name in SECONDS}
        self._read_at = now
        self.seconds.clear()
        return found if before is None else found | {REST: max(0.0, now - before - sum(found.values()))}


def score_figures(
    labels: Sequence[str], optimised: Sequence[str], table: ScoreTable, found: Advantages, groups: Tensor
) -> dict[str, float]:
    """Return the figures of a step's scores.

    Args:
        labels: of all rewards, in the order of the table's columns.
        optimised: of them, the ones that are optimised; the others are held out.
        table: scores of all ranks.
        found: the advantages, and what they were made of.
        groups: int64 [N], of the table's samples.

    Returns:
        Per reward, under `reward/LABEL` or `held_out/LABEL`: the mean score, and below it `group_std` in the mean over
        groups, `largest_std`, `failed` scores, and `left_out`, asked groups with fewer than two. `advantage/size`: mean
        |A|; `advantage/clipped`: share that was cut; `advantage/zero`: share of samples that count for nothing.
    """
    out: dict[str, float] = {}
    names = groups.unique()
    for k, label in enumerate(labels):
        asked = torch.isin(names, groups[table.asked[:, k]])
        name = f"{'reward' if label in optimised else 'held_out'}/{label}"
        scores = table.scores[table.scored[:, k], k]
        out[name] = scores.mean().item() if len(scores) else math.nan
        out[f"{name}/group_std"] = found.stds[:, k].nanmean().item()
        out[f"{name}/largest_std"] = found.largest[k].item()
        out[f"{name}/failed"] = float(table.failed[k])
        out[f"{name}/left_out"] = float((found.left_out[:, k] & asked).sum())
    size = found.values.abs()
    out["advantage/size"] = size.mean().item()
    out["advantage/clipped"] = found.clipped
    out["advantage/zero"] = (size == 0).double().mean().item()
    return out


def averaged(figures: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each figure over steps, of those that are numbers; counts of failures are added up."""
    out: dict[str, float] = {}
    for name in dict.fromkeys(name for step in figures for name in step):
        values = [step[name] for step in figures if name in step and math.isfinite(step[name])]
        total = math.fsum(values)
        is_count = name.endswith(("/failed", "/left_out", "/restarts"))
        out[name] = total if is_count else total / len(values) if values else math.nan
    return out
