"""The training loop: data, loss, backward, clip, guard, step, average, log, validate, sample, checkpoint.

Weights, optimizer, averages and step are its state, `reelwright.training.train_state`, which saves and resumes itself.
The loop imports no store and no objective, and builds and shards no model: `reelwright.training.run` hands it these.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from reelwright.model.attention import dense_attention
from reelwright.model.flops import DENSE
from reelwright.model.sparse import SparseAttention, use_attention
from reelwright.training.batch import Batch
from reelwright.training.budget.throughput import Meter
from reelwright.training.checkpoints import Checkpoints, read_metadata
from reelwright.training.clip_losses import ClipLosses
from reelwright.training.distributed.context import ContextParallel, context_parallel
from reelwright.training.distributed.parallel import accumulate, autocast
from reelwright.training.distributed.world import World
from reelwright.training.errors import StoppedByRule, TrainError
from reelwright.training.logs import Log
from reelwright.training.objectives.base import Loss
from reelwright.training.optim import clip_gradients, learning_rate, set_rate
from reelwright.training.recipe import TrainRecipe
from reelwright.training.rehearsal import FOLDER, Rehearsal, compiled_alone, rehearse
from reelwright.training.rewards.scoring import Scorer
from reelwright.training.stopping import REQUEST, Agreement, Stopping, watch
from reelwright.training.train_state import TrainState
from reelwright.training.validation import validate

OnWeights = Callable[[nn.Module, int], None]
"""(model, step): called on every rank with the network, in training, and the optimizer steps done."""

B = TypeVar("B", bound=Batch)
B_co = TypeVar("B_co", bound=Batch, covariant=True)


class Data(Protocol[B_co]):
    """Where batches come from."""

    def batches(self, start_step: int) -> Iterator[B_co | None]:
        """Yield this data rank's micro-batches from a step on: `batches_per_step` / data ranks per step.

        None, on all ranks alike, says that the next one takes long, and that the run may stop here.
        """

    def validation(self) -> Sequence[B_co]:
        """Return the batches of held-out clips, the same on every rank."""


@dataclass(frozen=True)
class Hooks:
    """Calls to whoever started a run.

    sample: generates videos with the averaged weights, every `samples.every` steps. on_weights: sees the weights that a
    run starts from, and those after each step that changed them. say: prints a line, on the first rank. scorer: scores
    the videos of an objective with rewards; None: in this process. saved: gets the step of the newest complete
    checkpoint, on the first rank: where a run goes on, at each later save, and at the end.
    """

    sample: OnWeights | None = None
    on_weights: OnWeights | None = None
    saved: Callable[[int], None] | None = None
    say: Callable[[str], None] = print
    scorer: Scorer | None = None


@dataclass(frozen=True)
class Outcome:
    """The end of a run.

    step: optimizer steps done. signal: the one that stopped it before its last step, else 0. metrics: of the last
    validation.
    """

    step: int
    finished: bool
    signal: int
    checkpoint: Path | None
    metrics: dict[str, float]


@dataclass(kw_only=True)
class Trainer(Generic[B]):
    """One run's state. Call `run` once, on all ranks.

    recipe: settings of the run. data: the snapshot's batches; the objective may make others from them. model: on its
    device, parallelized, with the weights it starts from. folder: of the run; the newest checkpoint of the same recipe
    and snapshot in it is resumed. metadata: goes into every checkpoint.json. resume_from: a checkpoint of another run;
    its weights, averages, optimizer state and step are the start of a run that has no checkpoint of its own. rehearsal:
    shapes to compile before the first step.
    """

    recipe: TrainRecipe
    data: Data[B]
    model: nn.Module
    world: World
    folder: Path
    metadata: Mapping[str, Any]
    resume_from: Path | None = None
    hooks: Hooks = Hooks()
    rehearsal: Rehearsal | None = None

    norm: float = field(init=False, default=0.0)  # of the last step's gradient
    losses: list[float] = field(init=False, default_factory=list)  # of the steps since the last line
    held_out: Sequence[B] | None = field(init=False, default=None)
    log: Log = field(init=False)

    def __post_init__(self) -> None:
        recipe = self.recipe
        self.micros = micro_batches(recipe, self.world) * recipe.objective.micro_batches
        self.sparse, self.context = self._share()
        self.loss = torch.zeros((), device=self.world.device)  # this rank's part of the step's
        self.checkpoints = Checkpoints(self.folder / "checkpoints", recipe.checkpoints.keep, world=self.world)
        self.state: TrainState[B] = TrainState(
            recipe=recipe, model=self.model, world=self.world, checkpoints=self.checkpoints, metadata=self.metadata
        )
        self.meter = Meter(recipe.model, self.world)
        bands = recipe.log.clip_loss_bands
        self.clip_losses = ClipLosses(self.folder, bands, self.world) if bands else None
        self.data = recipe.objective.data(self.data, self.state.objective, recipe, self.world, self.hooks)

    def run(self) -> Outcome:
        """Resume, take the recipe's steps, save.

        Raises:
            TrainError: the guard's limit is passed, or the folder has checkpoints of another recipe or snapshot.
        """
        state = self.state
        if line := state.resume(self.resume_from):
            self._say(line)
        if self.clip_losses:
            self.clip_losses.drop_after(state.step)
        self._tell_saved()
        metadata, say = dict(self.metadata), self.hooks.say
        self.log = Log(self.folder, self.recipe.log, self.world, start_step=state.step, metadata=metadata, say=say)
        try:
            self._rehearse()
            with (
                compiled_alone(self.rehearsal),
                watch(self.folder / REQUEST if self.world.is_first else None) as stopping,
            ):
                stopped_by = self._steps(stopping)
            self._save()
        except StoppedByRule:  # on every rank, between two steps
            self._save()
            raise
        finally:
            self.checkpoints.wait()  # one under way is worth having, whatever ended the run
            self.log.close()
        self._tell_saved()
        signal = 0 if state.finished else stopped_by
        return Outcome(state.step, state.finished, signal, self.checkpoints.latest(), state.metrics)

    def _steps(self, stopping: Stopping) -> int:
        """Train until the last step, or the micro-batch in which a signal came; return the signal."""
        recipe, state, stopped_by = self.recipe, self.state, 0
        if state.saved_at is None:  # a run that begins
            self._validate()
            if recipe.objective.makes_videos and recipe.samples.every:  # to compare with
                self._sample()
        batches = self.data.batches(state.step) if state.step < recipe.steps else iter(())
        agreement = Agreement(self.world, stopping)
        self.model.train()
        self._tell_weights()
        while state.step < recipe.steps and not stopped_by:
            stopped_by = self._gradients(batches, agreement)
            if stopped_by:
                break
            stopped_by = self._optimize(agreement)
            is_last = state.step == recipe.steps
            if _due(state.step, recipe.log.every) or is_last:
                self._log_line()
            if (_due(state.step, recipe.validation.every) or is_last) and not stopped_by:
                self._validate()
            if _due(state.step, recipe.samples.every) and not stopped_by:
                self._sample()
            if _due(state.step, recipe.checkpoints.every):
                self._save()
        return stopped_by

    def _gradients(self, batches: Iterator[B | None], agreement: Agreement) -> int:
        """Accumulate the gradients of one step. Stops early and returns the signal if any rank received one, else 0."""
        self.meter.start_step()
        agreement.begin_step()
        self.loss = torch.zeros((), device=self.world.device)
        if self.sparse:
            self.sparse.at_step(self.state.step)  # an objective's own batches may be made by the network
        asked = 0
        for i in range(self.micros):
            stopped_by = agreement.within(i) if i else 0
            while not stopped_by and (given := next(batches)) is None:
                asked += 1
                stopped_by = agreement.within(asked)
            if stopped_by:
                self.state.optimizer.zero_grad(set_to_none=True)
                return stopped_by
            assert given is not None
            batch = given.to(self.world.device)
            if batch.step != self.state.step:
                raise RuntimeError(f"step {self.state.step} was given a batch of step {batch.step}; this is a bug")
            accumulate(self.model, self.recipe.parallel, last=i == self.micros - 1)
            found = self._loss(batch)
            found.total.backward()
            self.loss += found.total.detach()
            if self.clip_losses:
                self.clip_losses.see(batch, found)
            attention = self.sparse.current if self.sparse else DENSE
            self.meter.add(batch, self.state.objective.flops(batch, attention))
        return 0

    def _optimize(self, agreement: Agreement) -> int:
        """Clip, guard, step, average. Returns the signal to end by, 0: continue."""
        state = self.state
        set_rate(state.optimizer, learning_rate(state.step, self.recipe.optim))
        self.norm = clip_gradients(state.parameters, self.recipe.optim.clip_norm)
        total, *words = self.world.sum([self.loss.item(), *agreement.words(self.micros)])
        changes = state.guard.allows(state.step + 1, total, self.norm)
        if changes:
            state.optimizer.step()
            if state.ema:
                state.ema.update(state.step + 1)
        state.optimizer.zero_grad(set_to_none=True)  # before `after_step`, which may train a network of its own
        if changes:
            state.objective.after_step(state.step + 1)
        state.step += 1
        if changes:
            self._tell_weights()
        self.losses.append(total)
        self.meter.end_step()
        return agreement.heard(words)

    def _loss(self, batch: B, t: Tensor | None = None, *, at: int | None = None) -> Loss:
        """Compute the loss of a batch on this rank's device, of its strip where it has one.

        at: compute it by the attention of this step, if not of the current one.
        """
        if self.sparse:
            self.sparse.at_step(self.state.step if at is None else at)
        if self.context:
            batch = self.context.share(batch, self.recipe.model.patch_size)
        with autocast(self.recipe.compute, self.world.device):
            return self.state.objective.loss(batch, t=t)

    def _tell_weights(self) -> None:
        if self.hooks.on_weights:
            self.hooks.on_weights(self.model, self.state.step)

    def _rehearse(self) -> None:
        """Compile for all shapes that come; where attention turns sparse later, for both forms of it."""
        if self.rehearsal is None or self.state.step >= self.recipe.steps:
            return
        turns = [self.state.step, self.recipe.attention.dense_steps] if self.sparse else [self.state.step]

        def compute(batch: Any, backward: bool) -> None:
            batch = batch.to(self.world.device)
            for step in dict.fromkeys(max(self.state.step, at) for at in turns):
                self.model.train(backward)
                accumulate(self.model, self.recipe.parallel, last=True)
                with torch.set_grad_enabled(backward):
                    t = None if backward else torch.full((len(batch.seeds),), 0.5)
                    total = self._loss(batch, t, at=step).total
                if backward:
                    total.backward()
                    self.state.optimizer.zero_grad(set_to_none=True)

        cache = self.folder / FOLDER / f"rank-{self.world.rank:05d}.bin"
        rehearse(self.rehearsal, compute, cache=cache, say=self._say)
        self.model.train()

    def _save(self) -> None:
        """Save a checkpoint, unless there is one of this step; before it, whatever a run that goes on must find."""
        if self.state.saved_at == self.state.step:
            return
        if self.clip_losses:
            self.clip_losses.write(self.state.step)
        self.state.save()
        self._tell_saved()  # of the checkpoint before, which the save has waited for

    def _tell_saved(self) -> None:
        if self.hooks.saved and self.world.is_first and (latest := self.checkpoints.latest()):
            self.hooks.saved(read_metadata(latest)["step"])

    # --- now and then ------------------------------------------------------------------------------------------------

    def _log_line(self) -> None:
        finite = [x for x in self.losses if math.isfinite(x)]
        own = self.state.objective.metrics()
        values = {
            "loss": sum(finite) / len(finite) if finite else float("nan"),
            "grad_norm": self.norm,
            "lr": learning_rate(self.state.step - 1, self.recipe.optim),
            "skipped": float(self.state.guard.skipped),
            **self.meter.read(),
            **own,
        }
        self.losses = []
        shown = {n: value for n, value in own.items() if self.recipe.objective.shows(n, value)}
        self.log.write(self.state.step, values, line=_line(self.state.step, self.recipe.steps, values, shown))

    def _validate(self) -> None:
        """Validate the averaged weights, where they are kept: a run is made for them."""
        if self.held_out is None:
            self.held_out = self.data.validation()
        if not self.held_out:
            return
        self.model.eval()
        began = time.perf_counter()
        with self.state.averaged():
            self.state.metrics = validate(
                lambda batch, t: self._loss(batch.to(self.world.device), t),
                self.held_out,
                self.recipe.validation,
                self.world,
            )
        self.model.train()
        step, metrics = self.state.step, self.state.metrics
        tasks = [f"{name.removeprefix('val/')} {v:.4f}" for name, v in metrics.items() if name.count("/") == 1]
        line = f"step {step}: validation {', '.join(tasks)} ({time.perf_counter() - began:.1f} s)"
        self.log.write(step, metrics, line=line)

    def _sample(self) -> None:
        """Sample by the averaged weights, where they are kept; each rank computes whole videos of its own prompts."""
        if self.hooks.sample is None:
            return
        self.model.eval()
        whole = use_attention(self.model, self.recipe.attention)
        if whole:
            whole.at_step(self.state.step)
        with torch.no_grad(), self.state.averaged():
            self.hooks.sample(self.model, self.state.step)
        self.sparse, self.context = self._share()
        self.model.train()

    def _share(self) -> tuple[SparseAttention | None, ContextParallel | None]:
        """Set the recipe's attention, on this rank's strip where it has one."""
        sparse = use_attention(self.model, self.recipe.attention)
        return sparse, context_parallel(self.model, self.recipe.parallel, self.world, sparse or dense_attention)

    def _say(self, line: str) -> None:
        if self.world.is_first:
            self.hooks.say(line)


def micro_batches(recipe: TrainRecipe, world: World) -> int:
    """Return the micro-batches per step of each data rank.

    Raises:
        TrainError: the data ranks cannot share them evenly.
    """
    per_rank, left = divmod(recipe.data.batches_per_step, world.data_size)
    if left or not per_rank:
        raise TrainError(
            f"data.batches_per_step {recipe.data.batches_per_step} cannot be shared evenly by {world.data_size} data "
            f"ranks; make it a multiple of {world.data_size}"
        )
    return per_rank


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _line(step: int, steps: int, values: Mapping[str, float], shown: Mapping[str, float]) -> str:
    mfu = f"  MFU {values['mfu']:.1%}" if "mfu" in values else ""
    skipped = f"  {values['skipped']:.0f} skipped" if values["skipped"] else ""
    more = "".join(f"  {name} {value:.4g}" for name, value in shown.items())
    loss = f"{values['loss']:{'.4f' if abs(values['loss']) >= 1e-3 else '.2e'}}"  # a policy's is near 0
    return (
        f"step {step}/{steps}  loss {loss}{more}  norm {values['grad_norm']:.3g}  lr {values['lr']:.2g}  "
        f"{values['clips_per_s']:.2f} clips/s  {values['tokens_per_s']:,.0f} tokens/s  "
        f"data {values['data_wait_share']:.1%}{mfu}{skipped}"
    )
