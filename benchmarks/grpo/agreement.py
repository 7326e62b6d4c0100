"""How far the gradients of independent updates agree, by deviation and by weighting: noise in them, without a run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.grpo.learning import NOISY, REWARDS, VARIANTS, Noise, base_of, policy_recipe, printed
from benchmarks.grpo.squares import PROMPTS, Squares
from reelwright.model.lora.adapters import lora_parameters
from reelwright.training.distributed.world import World
from reelwright.training.rewards.calling import score
from reelwright.training.rl.advantages import Scale, advantages
from reelwright.training.rl.videos import Decoder
from reelwright.training.run import build

SETTINGS: dict[str, tuple[Scale, str]] = {
    "largest deviation": ("largest", "exact"),
    "own deviation": ("group", "exact"),
    "weights of the report": ("largest", "report"),
    "without weights": ("largest", "none"),
}
CLIP = 5.0
GROUP = 4


@dataclass(frozen=True)
class Update:
    """Gradients of one update by setting, flat. noisy: of the noisy prompt's group alone."""

    gradients: dict[str, Tensor]
    noisy: dict[str, Tensor]


def print_agreement(folder: Path, seeds: int, updates: int) -> None:
    """Print means over seeds of the cosine between gradients of two updates, and of the noisy prompt's part."""
    rows = [_of_seed(folder, seed, updates) for seed in range(seeds)]
    for name in SETTINGS:
        printed(f"{name}: cosine between the gradients of two updates", [row[name][0] for row in rows])
        printed(f"{name}: norm of the noisy prompt's gradient over that of all", [row[name][1] for row in rows])
    for name in list(SETTINGS)[1:]:
        against = [row[name][0] - row["largest deviation"][0] for row in rows]
        printed(f"{name}: cosine less that of the largest deviation with exact weights", against)


def _of_seed(folder: Path, seed: int, updates: int) -> dict[str, tuple[float, float]]:
    made = list(_updates(folder, seed, updates))
    out = {}
    for name in SETTINGS:
        rows = torch.stack([one.gradients[name] for one in made])
        norms = rows.norm(dim=1)
        unit = rows / norms[:, None]
        cosines = unit @ unit.T
        apart = (cosines.sum() - cosines.trace()) / (updates * (updates - 1))
        parts = [float(one.noisy[name].norm() / norm) for one, norm in zip(made, norms, strict=True)]
        out[name] = (float(apart), float(np.mean(parts)))
    return out


def _updates(folder: Path, seed: int, updates: int) -> Iterator[Update]:
    """Yield updates of independent rollouts, all with the adapters that a seed begins with, on the base of seed 0."""
    recipe = policy_recipe(VARIANTS["one noisy prompt, largest deviation"], updates, seed, base_of(folder, 0))
    world = World.alone("cpu")
    model, _ = build(recipe, world)
    decoder, rewards = Decoder(recipe, world), [Noise(name) for name in REWARDS]
    kinds = {kind for _, kind in SETTINGS.values()}
    objectives = {
        kind: recipe.objective.model_copy(update={"weighting": kind, "beta": 0}).build(model, recipe, world)
        for kind in kinds
    }  # fmt: skip
    for batch in Squares.of(recipe, len(PROMPTS), of_data=False).batches(0):
        made = objectives["exact"].roll(batch)
        prompts = [prompt for prompt in batch.captions for _ in range(GROUP)]
        videos = [one for one in decoder.videos(made.latents.flatten(0, 1), prompts, batch) if one is not None]
        assert len(videos) == len(prompts)
        scores = torch.tensor([score(reward, videos) for reward in rewards], dtype=torch.float64).T
        noisy = torch.tensor([prompt == NOISY for prompt in prompts])
        gradients, alone = {}, {}
        for name, (scale, kind) in SETTINGS.items():
            values = _advantages(scores, scale)
            gradients[name] = _gradient(model, objectives[kind], batch, made.cpu(), values)
            alone[name] = _gradient(model, objectives[kind], batch, made.cpu(), values * noisy)
        yield Update(gradients, alone)


def _advantages(scores: Tensor, scale: Scale) -> Tensor:
    ids = torch.arange(len(scores)) // GROUP
    known = torch.ones_like(scores, dtype=torch.bool)
    return advantages(ids, scores, known, [1.0] * scores.shape[1], clip=CLIP, scale=scale).values


def _gradient(model: torch.nn.Module, objective: Any, batch: Any, made: Any, values: Tensor) -> Tensor:
    """Return the adapters' gradient, [numbers]."""
    model.zero_grad(set_to_none=True)
    micros: Sequence[Any] = objective.micro_batches(batch, made, values.float().view(-1, GROUP))
    for micro in micros:
        objective.loss(micro).total.backward()
    return torch.cat([p.grad.flatten() for p in lora_parameters(model) if p.grad is not None])
