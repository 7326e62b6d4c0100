"""The loop of tuning: samples, loss, backward, clip, AdamW, log, checkpoint; on one device or on ranks by FSDP2."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from reelwright.training import checkpoints
from reelwright.training.checkpoints import Checkpoints
from reelwright.training.distributed.world import World
from reelwright.training.errors import TrainError
from reelwright.training.logs import Log
from reelwright.training.optim import clip_gradients, optimizer_tensors
from reelwright.training.recipe import LogConfig
from reelwright.training.stopping import watch
from reelwright.training.tuning.base import is_vision
from reelwright.training.tuning.feed import Feed
from reelwright.training.tuning.objective import TuneObjective
from reelwright.training.tuning.recipe import OptimConfig, TuneRecipe
from reelwright.training.tuning.samples import Item

E = TypeVar("E")


@dataclass(frozen=True)
class TuneOutcome:
    """The end of a run. step: steps done. signal: that stopped it, else 0. left_out: while training, by reason."""

    step: int
    finished: bool
    signal: int
    left_out: dict[str, int]


@dataclass(kw_only=True)
class Tuner(Generic[E]):
    """One run. Call `run` once, on all ranks.

    recipe: settings. network: on its device, sharded, with adapters. objective: of the use. feed: decodes samples and
    makes examples. items: to train on. folder: of the run; its newest checkpoint is resumed. metadata: goes into every
    checkpoint; `made_from` in it must be the same on resuming. blank: an example that ranks without one compute.
    """

    recipe: TuneRecipe
    network: nn.Module
    objective: TuneObjective[E]
    feed: Feed[E]
    items: Sequence[Item]
    world: World
    folder: Path
    metadata: Mapping[str, Any]
    blank: Callable[[], E]
    say: Callable[[str], None] = print

    step: int = field(init=False, default=0)
    left_out: Counter[str] = field(init=False, default_factory=Counter)

    def __post_init__(self) -> None:
        self.parameters = {n: p for n, p in self.network.named_parameters() if p.requires_grad}
        self.optimizer = make_optimizer(self.parameters, self.recipe.optim, self.recipe.lora.vision_rate)
        self.checkpoints = Checkpoints(self.folder / "checkpoints", 2, world=self.world)
        most = self.objective.form.most
        self.together = min(self.recipe.compute.per_forward, most or self.recipe.compute.per_forward)

    def run(self) -> TuneOutcome:
        """Resume, take the recipe's steps, save.

        Raises:
            TrainError: the folder has checkpoints of another recipe, model or data, or the loss is not finite.
        """
        self._resume()
        metadata, say = dict(self.metadata), self.say
        log = Log(self.folder, LogConfig(), self.world, start_step=self.step, metadata=metadata, say=say)
        stopped, saved = 0, self.step
        try:
            with watch() as stopping:
                self.network.train()
                for chunk in self._chunks():
                    self._step(chunk, log)
                    if self.step % self.recipe.save_every == 0:
                        self._save()
                        saved = self.step
                    stopped = self.world.largest(stopping.signal)
                    if stopped:
                        break
            if saved != self.step:
                self._save()
        finally:
            self.checkpoints.wait()
            log.close()
        finished = self.step >= self.recipe.steps
        return TuneOutcome(self.step, finished, 0 if finished else stopped, self._left_out())

    def loss_of(self, items: Sequence[Item]) -> float:
        """Return the mean loss of samples, without dropout, on every rank; NaN where there are none."""
        total = weight = 0.0
        self.network.eval()
        with torch.no_grad():
            for group in self.feed.groups([items[i : i + self.together] for i in range(0, len(items), self.together)]):
                if group.examples:
                    with self._autocast():
                        total += self.objective.loss(self.network, group.examples, self.world.device).item()
                    weight += sum(map(self.objective.weight, group.examples))
        return total / weight if weight else float("nan")

    # --- a step ------------------------------------------------------------------------------------------------------

    def _chunks(self) -> Iterator[list[list[E]]]:
        """Yield this rank's forward passes of each step that is left; a rank that lacks samples has empty ones."""
        own = (mine(self.items, step, self.recipe, self.world) for step in range(self.step, self.recipe.steps))
        per_rank = math.ceil(self.recipe.samples_per_step / self.world.data_size)
        passes = math.ceil(per_rank / self.together)
        for group in self.feed.groups(own):
            self.left_out.update(group.left_out)
            made = [group.examples[i : i + self.together] for i in range(0, len(group.examples), self.together)]
            yield made + [[]] * (passes - len(made))

    def _step(self, passes: Sequence[Sequence[E]], log: Log) -> None:
        began = time.perf_counter()
        recipe, own = self.recipe, [example for one in passes for example in one]
        weight, count = self.world.sum([sum(map(self.objective.weight, own)), len(own)])
        loss = torch.zeros((), device=self.world.device, dtype=torch.float64)
        for number, examples in enumerate(passes):
            torch.manual_seed(_seed(recipe.seed, self.step, number, self.world.rank))  # of dropout: a resumed run's too
            given = examples or [self.blank()]
            with self._autocast():
                part = self.objective.loss(self.network, given, self.world.device) / max(weight, 1.0)
            if not examples:
                part = part * 0.0  # its forward and backward are those of the other ranks' collectives
            part.backward()
            loss += part.detach()
        norm = clip_gradients(self.parameters, recipe.optim.clip_norm)
        (total,) = self.world.sum([loss.item()])
        if not math.isfinite(total) or not math.isfinite(norm):
            what = f"the loss is {total} and the gradient's norm {norm}"
            raise TrainError(f"step {self.step + 1}: {what}; lower optim.lr")
        rate = rate_at(self.step, recipe.steps, recipe.optim)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        if self.step % recipe.log_every == 0 or self.step == recipe.steps:
            left_out = sum(self._left_out().values())
            seconds = time.perf_counter() - began
            values = {"loss": total, "grad_norm": norm, "lr": rate, "samples": count, "left_out": left_out}
            line = f"step {self.step} of {recipe.steps}: loss {total:.4f}, gradient {norm:.3g}, {seconds:.2f} s a step"
            log.write(self.step, values, line=line + (f", {left_out} left out" if left_out else ""))

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.recipe.compute.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.world.device.type, torch.bfloat16, cache_enabled=False)

    def _left_out(self) -> dict[str, int]:
        """Return samples left out while training, by reason, over all ranks. All ranks call it."""
        from reelwright.training.tuning.samples import REASONS

        sums = self.world.sum([float(self.left_out[reason]) for reason in REASONS])
        return {reason: int(n) for reason, n in zip(REASONS, sums, strict=True) if n}

    # --- checkpoints -------------------------------------------------------------------------------------------------

    def _tensors(self) -> dict[str, Tensor]:
        weights = {f"model.{name}": parameter.detach() for name, parameter in self.parameters.items()}
        return weights | optimizer_tensors(self.optimizer, self.parameters)

    def _save(self) -> None:
        left_out = self._left_out()
        self.checkpoints.save(self.step, self._tensors(), {**self.metadata, "left_out": left_out})

    def _resume(self) -> None:
        latest = self.checkpoints.latest()
        if latest is None:
            return
        saved = checkpoints.read_metadata(latest)
        if saved.get("made_from") != self.metadata["made_from"]:
            raise TrainError(
                f"{latest} is of another recipe, base model or data; give this run another folder (--out or --name)"
            )
        checkpoints.load_tensors(latest, self._tensors())
        self.step = saved["step"]
        if self.world.is_first:
            self.left_out.update(saved.get("left_out") or {})
            self.say(f"resuming from step {self.step} of {self.recipe.steps} ({latest})")


def make_optimizer(
    parameters: Mapping[str, nn.Parameter], optim: OptimConfig, vision_rate: float
) -> torch.optim.AdamW:
    """Return AdamW; vision has a rate of its own, and only matrices decay."""
    groups = []
    for vision in (False, True):
        for decays in (False, True):
            some = [p for n, p in parameters.items() if is_vision(n) is vision and (p.ndim >= 2) is decays]
            decay = optim.weight_decay if decays else 0.0
            if some:
                groups.append({"params": some, "weight_decay": decay, "factor": vision_rate if vision else 1.0})
    return torch.optim.AdamW(groups, lr=optim.lr, betas=optim.betas, fused=True)


def rate_at(step: int, steps: int, optim: OptimConfig) -> float:
    """Return the rate of step `step` (from 0): a linear warm-up, then a cosine to 0, or level."""
    warm = round(optim.warmup * steps)
    if step < warm:
        return optim.lr * (step + 1) / (warm + 1)
    if optim.schedule == "constant":
        return optim.lr
    return optim.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def mine(items: Sequence[Item], step: int, recipe: TuneRecipe, world: World) -> list[Item]:
    """Return this rank's samples of a step. Every sample comes once per epoch, in an order of the epoch's own."""
    first, last = step * recipe.samples_per_step, (step + 1) * recipe.samples_per_step
    places = range(first + world.data_rank, last, world.data_size)
    return [items[_order(len(items), recipe.seed, place // len(items))[place % len(items)]] for place in places]


_orders: dict[tuple[int, int, int], list[int]] = {}


def _order(count: int, seed: int, epoch: int) -> list[int]:
    """Return a permutation; the last one is kept."""
    key = (count, seed, epoch)
    if key not in _orders:
        generator = torch.Generator().manual_seed(_seed(seed, epoch, count))
        while len(_orders) > 1:
            _orders.pop(next(iter(_orders)))
        _orders[key] = torch.randperm(count, generator=generator).tolist()
    return _orders[key]


def _seed(*numbers: int) -> int:
    return int.from_bytes(hashlib.sha256(json.dumps(numbers).encode()).digest()[:7], "big")
