"""The policy's gradient by its stochastic step, with each weighting: what weights even out."""

from dataclasses import replace
from itertools import count, islice
from pathlib import Path

import torch

from benchmarks.grpo.learning import CRITICAL, VARIANTS, base_of, policy_recipe
from benchmarks.grpo.squares import PROMPTS, Squares
from reelwright.model.lora.adapters import lora_parameters
from reelwright.training.distributed.world import World
from reelwright.training.rl.streams import critical_step
from reelwright.training.run import build

WEIGHTINGS = ("exact", "report", "none")


def print_gradients(folder: Path, seed: int) -> None:
    """Print norms of the adapters' gradient at a run's beginning, of the same groups, with normal advantages."""
    base = base_of(folder, seed)
    for weighting in WEIGHTINGS:
        norms = [_norm(weighting, step, seed, base) for step in range(CRITICAL)]
        against = ", ".join(f"{norm / norms[0]:.3f}" for norm in norms)
        print(f"{weighting}: norm at stochastic step 0 {norms[0]:.3g}; at steps 0 to {CRITICAL - 1} over it: {against}")


def _norm(weighting: str, step: int, seed: int, base: Path) -> float:
    recipe = policy_recipe(VARIANTS["three rewards"], 1, seed, base)
    recipe = recipe.model_copy(
        update={"objective": recipe.objective.model_copy(update={"weighting": weighting, "beta": 0})}
    )
    world = World.alone("cpu")
    model, _ = build(recipe, world)
    objective = recipe.objective.build(model, recipe, world)
    batch = next(Squares.of(recipe, len(PROMPTS), of_data=False).batches(0))
    seeds = list(islice((s for s in count(1000 * seed) if critical_step(s, CRITICAL) == step), len(PROMPTS)))
    batch = replace(batch, seeds=seeds)
    made = objective.roll(batch)
    draw = torch.Generator().manual_seed(seed)
    drawn = torch.randn(made.latents.shape[:2], generator=draw)
    (micro,) = objective.micro_batches(batch, made.cpu(), drawn - drawn.mean(1, keepdim=True))
    objective.loss(micro).total.backward()
    found = [p.grad for p in lora_parameters(model) if p.grad is not None]
    return float(torch.nn.utils.get_total_norm(found))
