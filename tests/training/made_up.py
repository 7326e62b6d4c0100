"""Data for the loop that needs no store: a few fixed clips, dealt out as a plan would."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from reelwright.model.dit import DiT
from reelwright.training.batch import Batch, Task
from reelwright.training.distributed.world import World
from reelwright.training.loop import Hooks, Outcome, Trainer
from reelwright.training.recipe import TrainRecipe
from tests.training.batches import make_batch

MODEL = {"in_channels": 4, "out_channels": 4, "hidden_size": 32, "depth": 2, "num_heads": 2, "caption_channels": 8,
         "adaln_tembed_dim": 16, "frequency_embedding_size": 16, "text_tokens": 4}  # fmt: skip
KINDS: tuple[tuple[Task, int, int], ...] = (("t2i", 0, 1), ("t2v", 0, 3), ("i2v", 1, 3), ("continuation", 2, 3))
ABOUT = {"recipe_fingerprint": "r", "snapshot": {"content_hash": "s"}, "recipe": {}, "parent": None}


@dataclass
class MadeUp:
    """Micro-batch m of step s is of kind (s + m) % 4; clips come back every 8 steps."""

    recipe: TrainRecipe
    world: World
    spoil: int | None = None  # a step whose latents are not finite

    def batches(self, start_step: int) -> Iterator[Batch]:
        per_step = self.recipe.data.batches_per_step
        for step in range(start_step, self.recipe.steps):
            for micro in range(self.world.data_rank, per_step, self.world.data_size):
                batch = self._batch(step, micro, per_step)
                if step == self.spoil:
                    batch.latents[0, 0, 0, 0, 0] = float("nan")
                yield batch

    def validation(self) -> Sequence[Batch]:
        return [replace(self._batch(100, m, 4), step=-1) for m in range(3)]

    def _batch(self, step: int, micro: int, per_step: int) -> Batch:
        task, cond, frames = KINDS[(step + micro) % 4]
        batch = make_batch(2, task=task, cond_frames=cond, frames=frames, channels=4, seed=10 * (step % 8) + micro,
                           step=step, micro=micro, samples_in_step=2 * per_step)  # fmt: skip
        batch.latents = 0.2 * batch.latents + torch.tensor([1.0, -1.0, 1.0, -1.0]).view(4, 1, 1, 1)  # easy to learn
        batch.seeds = [1000 * step + 10 * micro + i for i in range(2)]
        return batch


def recipe_of(**sections: Any) -> TrainRecipe:
    """A few steps of a tiny network, in fp32."""
    base: dict[str, Any] = {
        "model": MODEL, "steps": 6, "data": {"batches_per_step": 2}, "compute": {"precision": "fp32"},
        "optim": {"lr": 1e-2, "warmup_steps": 2, "ema": 0.9}, "log": {"every": 1, "tensorboard": False},
        "checkpoints": {"every": 2, "keep": 2}, "validation": {"every": 3, "bands": 2},
    }  # fmt: skip
    for name, section in sections.items():
        base[name] = {**base[name], **section} if isinstance(base.get(name), dict) else section
    return TrainRecipe.model_validate(base)


def run(recipe: TrainRecipe, folder: Path, *, data: Any = None, model: DiT | None = None, **options: Any) -> Outcome:
    """Train in this process."""
    world = World.alone("cpu")
    network = model or DiT(recipe.model).init_weights(recipe.seed)
    calls = {name: options.pop(name) for name in ("sample", "on_weights", "say", "saved") if name in options}
    hooks = Hooks(**{"say": _nothing} | calls)
    given = {"data": data or MadeUp(recipe, world), "model": network, "metadata": ABOUT} | options
    return Trainer(recipe=recipe, world=world, folder=folder, hooks=hooks, **given).run()


def _nothing(line: str) -> None:
    pass
