"""The training loop: data, forward, loss, backward, clip, guard, step, average, log, validate, sample, checkpoint.

It knows neither the store nor how a model is built or sharded: `reelwright.training.run` puts those together.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from reelwright.model.attention import dense_attention
from reelwright.model.flops import DENSE
from reelwright.model.sparse import SparseAttention, use_attention
from reelwright.training import checkpoints
from reelwright.training.budget.throughput import Meter
from reelwright.training.checkpoints import Checkpoints
from reelwright.training.data.batch import Batch
from reelwright.training.distributed.context import ContextParallel, context_parallel
from reelwright.training.distributed.parallel import accumulate, autocast
from reelwright.training.distributed.world import World
from reelwright.training.ema import Ema
from reelwright.training.errors import TrainError
from reelwright.training.guard import Guard
from reelwright.training.logs import Log
from reelwright.training.objectives.flow import Loss, flow_loss
from reelwright.training.optim import clip_gradients, learning_rate, make_optimizer, optimizer_tensors, set_rate
from reelwright.training.recipe import TrainRecipe
from reelwright.training.stopping import REQUEST, Stopping, watch
from reelwright.training.validation import validate

Sample = Callable[[nn.Module, int], None]
"""(model, step): generate videos with the weights as they are. Called on every rank."""


class Data(Protocol):
    """Where batches come from."""

    def batches(self, start_step: int) -> Iterator[Batch]:
        """This data rank's micro-batches from a step on, without end: `batches_per_step` / data ranks a step."""

    def validation(self) -> Sequence[Batch]:
        """Held-out clips, the same on every rank."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended. step: steps done. signal: what stopped it before its last step, 0: nothing. metrics: of the last
    validation.
    """

    step: int
    finished: bool
    signal: int
    checkpoint: Path | None
    metrics: dict[str, float]


def train(
    recipe: TrainRecipe,
    data: Data,
    world: World,
    folder: Path,
    *,
    model: nn.Module,
    about: Mapping[str, Any],
    sample: Sample | None = None,
    resume_from: Path | None = None,
    say: Callable[[str], None] = print,
) -> Outcome:
    """Train `model` (on its device, parallelized, with the weights it starts from) to the recipe's last step.

    folder: of the run; if it has checkpoints of this recipe and snapshot, the newest is gone on from. about: what goes
    into every checkpoint.json. resume_from: a checkpoint of another run, whose weights, averages, optimizer state and
    step a run begins with that has none of its own. All ranks call it. Raises TrainError past the guard's limit, and
    for a checkpoint of something else.
    """
    return Trainer(recipe, data, world, folder, model, about, sample, resume_from, say).run()


@dataclass
class Trainer:
    """One run's state. Call `run` once."""

    recipe: TrainRecipe
    data: Data
    world: World
    folder: Path
    model: nn.Module
    about: Mapping[str, Any]
    sample: Sample | None
    resume_from: Path | None
    say: Callable[[str], None]
    step: int = 0  # optimizer steps done
    saved_at: int | None = None  # the step of the newest checkpoint
    norm: float = 0.0  # of the last step's gradient
    metrics: dict[str, float] = field(default_factory=dict)  # of the last validation
    losses: list[float] = field(default_factory=list)  # of the steps since the last line
    held_out: Sequence[Batch] | None = None

    def __post_init__(self) -> None:
        recipe = self.recipe
        self.micros = micro_batches(recipe, self.world)
        self.sparse, self.context = self._share()
        self.loss = torch.zeros((), device=self.world.device)  # this rank's part of the step's
        self.parameters = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        self.optimizer = make_optimizer(self.parameters, recipe.optim)
        self.ema = Ema(self.parameters, recipe.optim.ema) if recipe.optim.ema else None
        self.guard = Guard(recipe.guard)
        self.meter = Meter(recipe.model, self.world, recipe.lora)
        self.checkpoints = Checkpoints(self.folder / "checkpoints", recipe.checkpoints.keep, world=self.world)

        self._resume()
        self.log = Log(
            self.folder, recipe.log, self.world, start_step=self.step, about=dict(self.about), say=self.say
        )

    def run(self) -> Outcome:
        try:
            with watch(self.folder / REQUEST if self.world.is_first else None) as stopping:
                stopped_by = self._steps(stopping)
            self._save_unless_saved()
        finally:
            self.checkpoints.wait()  # one under way is worth having, whatever ended the run
            self.log.close()
        finished = self.step >= self.recipe.steps
        return Outcome(self.step, finished, 0 if finished else stopped_by, self.checkpoints.latest(), self.metrics)

    def _steps(self, stopping: Stopping) -> int:
        """Until the last step, or the micro-batch in which a signal came; returns the signal."""
        recipe, stopped_by = self.recipe, 0
        if self.saved_at is None:  # a run that begins
            self._validate()
        batches = self.data.batches(self.step) if self.step < recipe.steps else iter(())
        self.model.train()
        while self.step < recipe.steps and not stopped_by:
            stopped_by = self._gradients(batches, stopping)
            if stopped_by:
                break
            self._optimize()
            stopped_by = self.world.largest(stopping.signal)
            is_last = self.step == recipe.steps
            if _due(self.step, recipe.log.every) or is_last:
                self._log_line()
            if (_due(self.step, recipe.validation.every) or is_last) and not stopped_by:
                self._validate()
            if _due(self.step, recipe.samples.every) and not stopped_by:
                self._sample()
            if _due(self.step, recipe.checkpoints.every):
                self._save()
        return stopped_by

    def _gradients(self, batches: Iterator[Batch], stopping: Stopping) -> int:
        """Of one step's micro-batches. Once any rank has had a signal the step is given up; returns the signal."""
        self.meter.start_step()
        self.loss = torch.zeros((), device=self.world.device)
        for i in range(self.micros):
            if i and (stopped_by := self.world.largest(stopping.signal)):
                self.optimizer.zero_grad(set_to_none=True)
                return stopped_by
            batch = self._here(next(batches))
            if batch.step != self.step:
                raise RuntimeError(f"step {self.step} was given a batch of step {batch.step}; this is a bug")
            accumulate(self.model, self.recipe.parallel, last=i == self.micros - 1)
            part = self._loss(batch).total
            part.backward()
            self.loss += part.detach()
            self.meter.add(batch, self.sparse.current if self.sparse else DENSE)
        return 0

    def _optimize(self) -> None:
        """Clip, guard, step, average."""
        set_rate(self.optimizer, learning_rate(self.step, self.recipe.optim))
        self.norm = clip_gradients(self.parameters, self.recipe.optim.clip_norm)
        (total,) = self.world.sum([self.loss.item()])
        if self.guard.allows(self.step + 1, total, self.norm):
            self.optimizer.step()
            if self.ema:
                self.ema.update(self.step + 1)
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.losses.append(total)
        self.meter.end_step()

    def _loss(self, batch: Batch, t: Tensor | None = None) -> Loss:
        if self.sparse:
            self.sparse.at_step(self.step)
        patch = self.recipe.model.patch_size
        strip = self.context.strip(batch.latents, patch) if self.context else None
        with autocast(self.recipe.compute, self.world.device):
            return flow_loss(self.model, batch, self.recipe.objective, t=t, strip=strip, patch=patch)

    def _here(self, batch: Batch) -> Batch:
        place = self.world.device
        text, mask = batch.text.to(place, non_blocking=True), batch.text_mask.to(place, non_blocking=True)
        latents = batch.latents.to(place, non_blocking=True)
        draws = batch.draws and replace(batch.draws, noise=batch.draws.noise.to(place, non_blocking=True))
        return replace(batch, latents=latents, text=text, text_mask=mask, draws=draws)

    # --- now and then ------------------------------------------------------------------------------------------------

    def _log_line(self) -> None:
        finite = [x for x in self.losses if math.isfinite(x)]
        values = {
            "loss": sum(finite) / len(finite) if finite else float("nan"),
            "grad_norm": self.norm,
            "lr": learning_rate(self.step - 1, self.recipe.optim),
            "skipped": float(self.guard.skipped),
            **self.meter.read(),
        }
        self.losses = []
        self.log.write(self.step, values, line=_line(self.step, self.recipe.steps, values))

    def _validate(self) -> None:
        """Of the averaged weights, where they are kept: they are what a run is for."""
        if self.held_out is None:
            self.held_out = self.data.validation()
        if not self.held_out:
            return
        self.model.eval()
        began = time.perf_counter()
        with self._averaged():
            self.metrics = validate(
                lambda batch, t: self._loss(self._here(batch), t), self.held_out, self.recipe.validation, self.world
            )
        self.model.train()
        tasks = [f"{name.removeprefix('val/')} {v:.4f}" for name, v in self.metrics.items() if name.count("/") == 1]
        line = f"step {self.step}: validation {', '.join(tasks)} ({time.perf_counter() - began:.1f} s)"
        self.log.write(self.step, self.metrics, line=line)

    def _sample(self) -> None:
        """By the averaged weights, where they are kept; every rank computes whole videos, of prompts of its own."""
        if self.sample is None:
            return
        self.model.eval()
        whole = use_attention(self.model, self.recipe.attention)
        if whole:
            whole.at_step(self.step)
        with torch.no_grad(), self._averaged():
            self.sample(self.model, self.step)
        self.sparse, self.context = self._share()
        self.model.train()

    def _share(self) -> tuple[SparseAttention | None, ContextParallel | None]:
        """Set the recipe's attention, on this rank's strip where it has one."""
        sparse = use_attention(self.model, self.recipe.attention)
        return sparse, context_parallel(self.model, self.recipe.parallel, self.world, sparse or dense_attention)

    def _averaged(self) -> AbstractContextManager[None]:
        return self.ema.swapped_in() if self.ema else nullcontext()

    # --- checkpoints -------------------------------------------------------------------------------------------------

    def _tensors(self) -> dict[str, Tensor]:
        """What the run is: weights (with adapters, those alone: the base does not change), averages, AdamW's state."""
        state = {name: tensor.detach() for name, tensor in self.model.state_dict().items()}
        weights = {f"model.{n}": t for n, t in state.items() if ".lora." in n or not self.recipe.lora}
        averages = self.ema.tensors() if self.ema else {}
        return weights | averages | optimizer_tensors(self.optimizer, self.parameters)

    def _save(self) -> None:
        world = {"ranks": self.world.size, "data": self.world.data_size, "context": self.world.context_size}
        guard = {"skipped": self.guard.skipped, "skipped_in_a_row": self.guard.skipped_in_a_row}
        about = {**self.about, "world": world, "guard": guard, "metrics": self.metrics,
                 "finished": self.step >= self.recipe.steps}  # fmt: skip
        self.saved_at = self.step
        self.checkpoints.save(self.step, self._tensors(), about)

    def _save_unless_saved(self) -> None:
        if self.saved_at != self.step:
            self._save()

    def _resume(self) -> None:
        latest = self.checkpoints.latest()
        if latest is None:
            self._begin()
            return
        about = checkpoints.about(latest)
        if _made_from(about) != _made_from(self.about):
            raise TrainError(f"{latest} is of another recipe or snapshot; give this run another folder (--out)")
        checkpoints.load_tensors(latest, self._tensors())
        self.step = self.saved_at = about["step"]
        self.guard.skipped, self.guard.skipped_in_a_row = about["guard"]["skipped"], about["guard"]["skipped_in_a_row"]
        self.metrics = about["metrics"]
        if self.world.is_first:
            self.say(f"going on from step {self.step} of {self.recipe.steps} ({latest})")


    def _begin(self) -> None:
        """With another run's state, where that is asked for."""
        if self.resume_from is None:
            return
        step = checkpoints.about(self.resume_from)["step"]
        if step >= self.recipe.steps:
            raise TrainError(
                f"{self.resume_from} is at step {step}, where it would be gone on from, but the recipe ends at "
                f"{self.recipe.steps}; raise steps, or take its weights alone with init"
            )
        wanted, there = self._tensors(), checkpoints.tensor_names(self.resume_from)
        averaged = any(name.startswith("ema.") for name in there)
        own = {name: tensor for name, tensor in wanted.items() if averaged or not name.startswith("ema.")}
        checkpoints.load_tensors(self.resume_from, own)
        if self.ema and not averaged:  # they begin here
            self.ema = Ema(self.parameters, self.recipe.optim.ema)
        self.step = step
        if self.world.is_first:
            self.say(f"going on from step {self.step} of {self.resume_from}, by this run's recipe")


def micro_batches(recipe: TrainRecipe, world: World) -> int:
    """Micro-batches of a step for each data rank. TrainError where they cannot be dealt out evenly."""
    per_rank, left = divmod(recipe.data.batches_per_step, world.data_size)
    if left or not per_rank:
        raise TrainError(
            f"data.batches_per_step {recipe.data.batches_per_step} cannot be shared evenly by {world.data_size} data "
            f"ranks; make it a multiple of {world.data_size}"
        )
    return per_rank


def _made_from(about: Mapping[str, Any]) -> tuple[str, str]:
    return about["recipe_fingerprint"], about["snapshot"]["content_hash"]


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _line(step: int, steps: int, values: Mapping[str, float]) -> str:
    mfu = f"  MFU {values['mfu']:.1%}" if "mfu" in values else ""
    skipped = f"  {values['skipped']:.0f} skipped" if values["skipped"] else ""
    return (
        f"step {step}/{steps}  loss {values['loss']:.4f}  norm {values['grad_norm']:.3g}  lr {values['lr']:.2g}  "
        f"{values['clips_per_s']:.2f} clips/s  {values['tokens_per_s']:,.0f} tokens/s  "
        f"data {values['data_wait_share']:.1%}{mfu}{skipped}"
    )
