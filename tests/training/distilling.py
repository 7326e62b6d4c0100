"""A small random network with the adapters of a distillation, and runs of the loop on it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from reelwright.model.dit import DiT
from reelwright.model.lora.adapters import lora_parameters
from reelwright.training.batch import Batch
from reelwright.training.checkpoints import Checkpoints, read_tensors
from reelwright.training.distributed.world import World, start
from reelwright.training.logs import read_log
from reelwright.training.loop import Hooks, Trainer
from reelwright.training.recipe import TrainRecipe
from reelwright.training.run import build
from tests.training.made_up import ABOUT, MODEL, MadeUp, recipe_of

LORA = {"rank": 2, "alpha": 4}
TEXT = {"kind": "hashing", "dim": MODEL["caption_channels"], "tokens": MODEL["text_tokens"]}


def distilling(base: Path | str, objective: dict[str, Any], **sections: Any) -> TrainRecipe:
    """A recipe of few steps; `reference_tokens` so that the tiny clips have a shift of about 3 to 12."""
    given = {"reference_tokens": 12, "negative": "blurred, still", **objective}
    rest: dict[str, Any] = {"lora": LORA, "text": TEXT, "optim": {"ema": 0.0, "lr": 0.02}, "validation": {"every": 3}}
    return recipe_of(init=str(base), objective=given, **{**rest, **sections})


def save_base(file: Path) -> Path:
    """A network's weights as one file in the published layout, none of them zero."""
    generator = torch.Generator().manual_seed(3)
    shapes = DiT(recipe_of().model).state_dict()
    save_file({name: 0.2 * torch.randn(t.shape, generator=generator) for name, t in shapes.items()}, file)
    return file


def awake(recipe: TrainRecipe, world: World | None = None, *, std: float = 0.3) -> DiT:
    """The network of a recipe, its adapters random and each another."""
    model, _ = build(recipe, world or World.alone("cpu"))
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for part in recipe.objective.adapters:
            for parameter in lora_parameters(model, part.name):
                parameter.normal_(std=std, generator=generator)
    return model


def train(recipe: TrainRecipe, folder: Path, world: World | None = None, **options: Any) -> list[float]:
    """Train from the recipe's own start, or resume; return the losses of all steps so far."""
    world = world or World.alone("cpu")
    model, _ = build(recipe, world)
    data = options.pop("data", None) or MadeUp(recipe, world)
    Trainer(
        recipe=recipe, data=data, model=model, world=world, folder=folder, metadata=ABOUT,
        hooks=Hooks(say=str), **options,
    ).run()  # fmt: skip
    return [row["loss"] for row in read_log(folder) if "loss" in row]


def saved(folder: Path) -> dict[str, torch.Tensor]:
    newest = Checkpoints(folder / "checkpoints", 1).latest()
    assert newest
    return read_tensors(newest)


def on_rank(recipe: dict[str, Any], folder: str) -> None:
    """Train as one rank of a run; for `ranks`."""
    given = TrainRecipe.model_validate(recipe)
    train(given, Path(folder), start(given.parallel, device="cpu"))


class Power(Exception):
    pass


class Killed(MadeUp):
    """The power goes in step 5, after the checkpoint of step 4."""

    def batches(self, start_step: int) -> Iterator[Batch]:
        for batch in super().batches(start_step):
            if batch.step == 5:
                raise Power
            yield batch
