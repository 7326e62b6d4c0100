"""A run's batches made of its own videos: rolled out, decoded, scored while the next ones are made, and compared.

A step's micro-batches from the snapshot give prompts, shapes, clean frames and seeds. All are rolled out by the weights
of that step before the first is trained on, since an advantage is a comparison with all groups of all ranks. Nothing is
kept from step to step, so a run that is resumed makes the same rollouts again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from reelwright.training.batch import Batch
from reelwright.training.distributed.parallel import autocast
from reelwright.training.distributed.world import World
from reelwright.training.rewards.contract import Score, Unscored, Video
from reelwright.training.rewards.scoring import Pending, Scorer
from reelwright.training.rl.advantages import Advantages, advantages
from reelwright.training.rl.batch import RolloutBatch
from reelwright.training.rl.config import RolloutConfig
from reelwright.training.rl.figures import Tally, score_figures
from reelwright.training.rl.hacking import measured
from reelwright.training.rl.paths import Made, Paths
from reelwright.training.rl.prompts import Prompts, prompts_of
from reelwright.training.rl.scores import ScoreTable, gathered, refuse_failures
from reelwright.training.rl.videos import Decoder
from reelwright.training.rl.watch import Watch

if TYPE_CHECKING:
    from reelwright.training.recipe import TrainRecipe

NOT_FINITE = Unscored("the video is not finite: the network gave nan or infinity")


class Source(Protocol):
    """The snapshot's batches, as the loop has them."""

    def batches(self, start_step: int) -> Iterator[Batch]:
        """Yield this data rank's micro-batches from a step on."""

    def validation(self) -> Sequence[Batch]:
        """Return the batches of held-out clips."""


class RollsOut(Protocol):
    """The part of an objective that makes samples of prompts, and micro-batches of samples."""

    paths: Paths
    watch: Watch

    def roll(self, batch: Batch) -> Made:
        """Make a group per sample of a batch, on its device. All ranks call it together."""

    def micro_batches(self, batch: Batch, made: Made, advantages: Tensor) -> list[RolloutBatch]:
        """Return what is trained on. advantages: [B, G] of the groups; all tensors lie on the CPU."""


@dataclass
class _Group:
    """Groups of a micro-batch, under way.

    waiting: the scores of the samples that this rank has decoded. meters: of them, by `hacking.measured`.
    """

    batch: Batch
    made: Made
    decoded: list[int]
    videos: list[Video | None]
    waiting: Pending | None
    meters: Tensor


@dataclass
class Rollouts:
    """The loop's data, of `grpo` and its like. inner: the snapshot's batches."""

    inner: Source
    objective: RollsOut
    config: RolloutConfig
    recipe: TrainRecipe
    world: World
    scorer: Scorer
    prompts: Prompts
    decoder: Decoder
    owns_scorer: bool = False
    tally: Tally = field(default_factory=Tally)

    def batches(self, start_step: int) -> Iterator[RolloutBatch | None]:
        """Yield this rank's batches from a step on; a step is rolled out when its first one is asked for.

        None comes between the groups of two micro-batches, where a run may stop: rollouts are made again then.
        """
        inner = self.inner.batches(start_step)
        count = self.recipe.data.batches_per_step // self.world.data_size
        try:
            while micros := list(islice(inner, count)):
                yield from self._step(micros)
        finally:
            if self.owns_scorer:
                self.scorer.close()

    def validation(self) -> Sequence[Batch]:
        """Return the snapshot's held-out batches, on which a drift from the data shows."""
        return self.inner.validation()

    def _step(self, micros: list[Batch]) -> Iterator[RolloutBatch | None]:
        groups: list[_Group] = []
        for batch in micros:
            groups.append(self._begin(self.prompts.of(batch)))
            yield None
        with self.tally.timing("wait_s"):
            table, most = self._scores(groups)
        config, labels = self.config, self.config.labels
        weights = [*config.weights, *[0.0] * len(config.held_out)]
        ids = table.rows // config.group
        found = advantages(
            ids, table.scores, table.scored, weights, clip=config.advantage_clip, scale=config.deviation,
            eps=config.advantage_eps,
        )  # fmt: skip
        figures = score_figures(labels, tuple(config.rewards), table, found, ids)
        figures |= self.tally.read(self.objective.paths, self.scorer, labels, self.world)
        meters = torch.stack([group.meters for group in groups]).sum(0)
        figures |= self.objective.watch.measure(micros[0].step, meters, self.world)
        self.objective.watch.check(micros[0].step, figures, self.world)
        made = [self._trained(group, table, found, most) for group in groups]
        for batches in made:
            for made_batch in batches:
                made_batch.figures = figures
                yield made_batch

    def _begin(self, batch: Batch) -> _Group:
        """Roll out the groups of a micro-batch and hand this rank's videos to the rewards."""
        with self.tally.timing("network_s"), autocast(self.recipe.compute, self.world.device):
            made = self.objective.roll(batch.to(self.world.device))
        with self.tally.timing("decode_s"):
            flat = made.latents.flatten(0, 1)
            prompts = [prompt for prompt in batch.captions for _ in range(self.config.group)]
            mine = self.decoder.mine(len(flat))
            videos = self.decoder.videos(flat[mine], [prompts[i] for i in mine], batch)
        whole = [video for video in videos if video is not None]
        asked = self.config.asked_of(batch.task)
        waiting = self.scorer.submit(whole, asked) if whole and asked else None
        with self.tally.timing("decode_s"):
            meters = measured(whole)
        return _Group(batch, made.cpu(), mine, videos, waiting, meters)

    def _scores(self, groups: list[_Group]) -> tuple[ScoreTable, int]:
        """Wait for all scores; return those of all ranks, and how many groups a micro-batch has at most."""
        labels = self.config.labels
        most = int(self.world.max([max(len(group.batch.seeds) for group in groups)])[0])
        mine: dict[int, dict[str, Score]] = {}
        why: dict[str, str] = {}
        for group in groups:
            found = group.waiting.result() if group.waiting else {}
            scored = iter(range(len(group.videos)))
            first = group.batch.micro * most * self.config.group
            for place, video in zip(group.decoded, group.videos, strict=True):
                at = next(scored) if video is not None else -1
                asked = self.config.asked_of(group.batch.task)
                mine[first + place] = {label: NOT_FINITE if at < 0 else found[label][at] for label in asked}
        for scores in mine.values():
            why |= {label: score.why for label, score in scores.items() if isinstance(score, Unscored)}
        rows = self.recipe.data.batches_per_step * most * self.config.group
        table = gathered(mine, labels, rows, self.world)
        refuse_failures(table, labels, self.config.max_failed, why)
        return table, most

    def _trained(self, group: _Group, table: ScoreTable, found: Advantages, most: int) -> list[RolloutBatch]:
        batch, size = group.batch, self.config.group
        first = group.batch.micro * most * size
        at = torch.searchsorted(table.rows, torch.arange(first, first + len(batch.seeds) * size))
        return self.objective.micro_batches(batch, group.made, found.values[at].float().view(-1, size))


def make_rollouts(
    inner: Source, objective: RollsOut, config: RolloutConfig, recipe: TrainRecipe, world: World, scorer: Scorer | None
) -> Rollouts:
    """Make the batches of a run. Every rank calls it.

    Args:
        inner: the snapshot's batches.
        objective: makes samples, and micro-batches of them.
        config: the objective's settings.
        recipe: of the run.
        world: this rank and the others.
        scorer: scores the videos; None: in this process.

    Raises:
        TrainError: prompts or rewards cannot be had.
    """
    prompts = prompts_of(config.prompts, recipe, world)
    return Rollouts(
        inner, objective, config, recipe, world, scorer or scorer_here(config), prompts, Decoder(recipe, world),
        owns_scorer=scorer is None,
    )  # fmt: skip


def scorer_here(config: RolloutConfig) -> Scorer:
    """Return the rewards of a recipe in this process.

    Raises:
        TrainError: a reward cannot start.
    """
    from reelwright.training.rewards.in_process import InProcess

    return InProcess(config.load_rewards(), {label: use.time_limit_s for label, use in config.uses.items()})
