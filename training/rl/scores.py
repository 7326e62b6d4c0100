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

    rows: int64 [N], the sample's number in the step. scores: float64 [N, K] of K rewards. scored: bool [N, K], where
    there is a score. asked: bool [N, K], where the reward was asked for one: it failed where it has none.
    """

    rows: Tensor
    scores: Tensor
    scored: Tensor
    asked: Tensor

    @property
    def failed(self) -> Tensor:
        """Scores that were asked for and are not there, int64 [K]."""
        return (self.asked & ~self.scored).sum(0)


def gathered(mine: Mapping[int, Mapping[str, Score]], labels: Sequence[str], most: int, world: World) -> ScoreTable:
    """Gather the scores that each rank has. Every rank calls it.

    Args:
        mine: scores of this rank's samples by the sample's number in the step, by the labels that were asked.
        labels: of the rewards, in the order of columns.
        most: numbers are below it.
        world: this rank and the others.
    """
    count = len(labels)
    values, asked, scored = torch.zeros(3, most, count, dtype=torch.float64)
    there = torch.zeros(most, 1, dtype=torch.float64)
    for row, scores in mine.items():
        there[row] = 1
        for k, label in enumerate(labels):
            score = scores.get(label)
            asked[row, k] = score is not None
            if score is not None and not isinstance(score, Unscored):
                values[row, k], scored[row, k] = score, 1
    every = world.sum(torch.cat([there, values, asked, scored], 1).flatten().tolist())
    there, values, asked, scored = torch.tensor(every, dtype=torch.float64).view(most, -1).split([1, *[count] * 3], 1)
    rows = there[:, 0].nonzero().flatten()
    return ScoreTable(rows, values[rows], scored[rows] > 0, asked[rows] > 0)


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
    for k, label in enumerate(labels):
        failed, total = int(table.failed[k]), int(table.asked[:, k].sum())
        if failed > most * total:
            seen = f", such as: {why[label]}" if label in why else " (another rank's log says why)"
            raise TrainError(
                f"reward {label!r} failed for {failed} of {total} videos of a step{seen}; mend it, or allow more with "
                f"objective.max_failed (now {most:g})"
            )
