"""A tiny network whose videos are rolled out, rewards that are quick to compute, and runs of the loop on them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from reelwright.model.dit import DiT
from reelwright.model.lora.adapters import lora_parameters
from reelwright.model.text import load_text_encoder, pack_text
from reelwright.training.batch import Batch, Task
from reelwright.training.distributed.world import World, start
from reelwright.training.logs import read_log
from reelwright.training.loop import Hooks, Trainer
from reelwright.training.recipe import TrainRecipe
from reelwright.training.rewards.contract import Reward, Score, Unscored, Video
from reelwright.training.rewards.in_process import InProcess
from reelwright.training.run import build
from tests.training.made_up import ABOUT, recipe_of

MODEL = {"in_channels": 16, "out_channels": 16, "hidden_size": 32, "depth": 2, "num_heads": 2, "caption_channels": 8,
         "adaln_tembed_dim": 16, "frequency_embedding_size": 16, "text_tokens": 4}  # fmt: skip
TEXT = {"kind": "hashing", "dim": 8, "tokens": 4}
KINDS: tuple[tuple[Task, int, int], ...] = (("t2v", 0, 2), ("i2v", 1, 3), ("continuation", 2, 3))
"""Task, condition frames and latent frames."""
NAMED = {"kind": "sharpness_standin"}
"""A recipe names rewards of the registry; runs here are handed a scorer of their own, `scorer`, under its labels."""
OTHER = {"kind": "smoothness_standin"}
"""A held-out reward is another one than those that are optimised."""
PROMPTS = ("a red fox", "a grey sea", "two boats", "rain")


@dataclass(frozen=True)
class Brightness(Reward):
    """Mean of the frames that were made, 0..1, times a scale."""

    scale: float = 1.0
    name, version = "brightness", 1

    def __call__(self, videos: Sequence[Video]) -> list[Score]:
        return [self.scale * float(video.frames[video.given :].mean()) / 255 for video in videos]


@dataclass(frozen=True)
class Redness(Reward):
    """How much more red than blue there is; fails for some videos where it is told to."""

    fails: bool = False
    name, version = "redness", 1

    def __call__(self, videos: Sequence[Video]) -> list[Score]:
        mean = [video.frames[..., 0].astype(float) - video.frames[..., 2] for video in videos]
        found = [float(one.mean()) for one in mean]
        return [Unscored("too round") if self.fails and int(abs(f) * 1e3) % 3 == 0 else f for f in found]


def rolling(base: Path | str, objective: dict[str, Any] | None = None, **sections: Any) -> TrainRecipe:
    """A recipe of a few steps on a tiny base, with a shift of about 3 for tiny videos."""
    given: dict[str, Any] = {
        "kind": "grpo", "rewards": {"brightness": NAMED, "redness": {**NAMED, "weight": 0.5}}, "group": 3, "steps": 4,
        "critical": 3, "guidance": 2.0, "negative": "dull", "reference_tokens": 12 * 16, "beta": 0.1,
        **(objective or {}),
    }  # fmt: skip
    rest: dict[str, Any] = {
        "model": MODEL, "text": TEXT, "lora": {"rank": 2, "alpha": 4}, "optim": {"ema": 0.0, "lr": 0.02},
        "data": {"caption_dropout": 0, "sizes": ["32x32"], "frames": [5, 9], "tokens_per_batch": 16},
        "validation": {"every": 0}, "checkpoints": {"every": 1, "keep": 9}, "steps": 3,
    }  # fmt: skip
    for name, section in sections.items():
        rest[name] = {**rest[name], **section} if isinstance(rest.get(name), dict) else section
    return recipe_of(init=str(base), objective=given, **rest)


def save_base(file: Path) -> Path:
    """A network's weights as one file in the published layout, none of them zero."""
    generator = torch.Generator().manual_seed(3)
    shapes = DiT(recipe_of(model=MODEL).model).state_dict()
    save_file({name: 0.2 * torch.randn(t.shape, generator=generator) for name, t in shapes.items()}, file)
    return file


def network(recipe: TrainRecipe, world: World | None = None, *, std: float = 0.0) -> DiT:
    """The network of a recipe; std: of its adapters, 0: as a run begins."""
    model, _ = build(recipe, world or World.alone("cpu"))
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in lora_parameters(model) if std else []:
            parameter.normal_(std=std, generator=generator)
    return model


def batch_of(
    kind: int = 0, *, samples: int = 2, step: int = 0, micro: int = 0, in_step: int | None = None, side: int = 4
) -> Batch:
    task, clean, frames = KINDS[kind]
    generator = torch.Generator().manual_seed(100 * step + 10 * micro + kind)
    captions = tuple(PROMPTS[(step + micro + i) % len(PROMPTS)] for i in range(samples))
    states = load_text_encoder(recipe_of(text=TEXT).text).encode(list(captions))
    return Batch(
        torch.randn(samples, 16, frames, side, side, generator=generator), pack_text(states, 4), task, clean,
        seeds=[1000 * step + 10 * micro + i for i in range(samples)], clip_ids=[""] * samples,
        samples_in_step=in_step or samples, step=step, micro=micro, captions=captions,
    )  # fmt: skip


@dataclass
class Clips:
    """Micro-batch m of step s is of kind (s + m) % 3; the first of a step has two samples, the others one."""

    recipe: TrainRecipe
    world: World

    def batches(self, start_step: int) -> Iterator[Batch]:
        count = self.recipe.data.batches_per_step
        for step in range(start_step, self.recipe.steps):
            for micro in range(self.world.data_rank, count, self.world.data_size):
                yield self.batch(step, micro, count)

    def batch(self, step: int, micro: int, count: int) -> Batch:
        samples = 2 if micro == 0 else 1
        return batch_of((step + micro) % 3, samples=samples, step=step, micro=micro, in_step=count + 1)

    def validation(self) -> Sequence[Batch]:
        return [batch_of(kind, step=-1, micro=kind) for kind in range(3)]


def scorer(*, fails: bool = False) -> InProcess:
    return InProcess({"brightness": Brightness(), "redness": Redness(fails)})


def train(recipe: TrainRecipe, folder: Path, world: World | None = None, **options: Any) -> list[dict[str, Any]]:
    """Train from the recipe's own start, or resume; return the rows of the log."""
    world = world or World.alone("cpu")
    data = options.pop("data", None) or Clips(recipe, world)
    rewards = options.pop("rewards", None) or scorer()
    model, _ = build(recipe, world)
    hooks = Hooks(say=str, scorer=rewards)
    Trainer(
        recipe=recipe,
        data=data,
        model=model,
        world=world,
        folder=folder,
        metadata={**ABOUT, **recipe.objective.origins()},
        hooks=hooks,
        **options,
    ).run()
    rewards.close()
    return [row for row in read_log(folder) if "loss" in row]


def on_rank(recipe: dict[str, Any], folder: str) -> None:
    """Train as one rank of a run; for `ranks`."""
    given = TrainRecipe.model_validate(recipe)
    train(given, Path(folder), start(given.parallel, device="cpu"))
