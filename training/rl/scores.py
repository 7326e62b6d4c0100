"""Scores of a step's samples, of all ranks: who made what, what failed, and whether the run may go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reelwright.training.distributed.world import World
from reelwright.training.errors import TrainError
from reelwright.training.rewards.contract import Score, Unscored


@dataclass(frozen=True)
class ScoreTable:
    """One row per sample of a step, the same on every rank.

    rows: int64 [N], the sample's number in the step. scores: float64 [N, K] of K rewards. scored: bool [N, K].
    """

    rows: Tensor
    scores: Tensor
    scored: Tensor


def gathered(mine: Mapping[int, Mapping[str, Score]], labels: Sequence[str], most: int, world: World) -> ScoreTable:
    """Gather the scores that each rank has. Every rank calls it.

    Args:
        mine: scores by label of this rank's samples, by the sample's number in the step.
        labels: of the rewards, in the order of columns.
        most: numbers are below it.
        world: this rank and the others.
    """
    count = len(labels)
    values, there = torch.zeros(most, count, dtype=torch.float64), torch.zeros(most, count + 1, dtype=torch.float64)
    for row, scores in mine.items():
        there[row, count] = 1
        for k, label in enumerate(labels):
            score = scores[label]
            if not isinstance(score, Unscored):
                values[row, k], there[row, k] = score, 1
    sums = torch.tensor(world.sum(torch.cat([values, there], 1).flatten().tolist()), dtype=torch.float64).view(most, -1)
    values, there = sums[:, :count], sums[:, count:] > 0
    rows = there[:, count].nonzero().flatten()
    return ScoreTable(rows, values[rows], there[rows, :count])


def refuse_failures(table: ScoreTable, labels: Sequence[str], most: float, why: Mapping[str, str]) -> None:
    """Stop a run whose rewards fail too often; on every rank alike.

    Args:
        table: of a step.
        labels: of the rewards.
        most: share of a reward's scores that may fail.
        why: a failure of each reward that this rank has seen.

    Raises:
        TrainError: more of a reward's scores failed.
    """
    total = len(table.rows)
    for k, label in enumerate(labels):
        failed = int((~table.scored[:, k]).sum())
        if failed > most * total:
            seen = f", such as: {why[label]}" if label in why else " (another rank's log says why)"
            raise TrainError(
                f"reward {label!r} failed for {failed} of {total} videos of a step{seen}; mend it, or allow more with "
                f"objective.max_failed (now {most:g})"
            )
