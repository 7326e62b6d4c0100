"""How far two runs part that differ in nothing but what a prompt that cannot be judged happens to score."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.grpo.learning import (
    REWARDS,
    USES,
    VARIANTS,
    Noise,
    base_of,
    policy_recipe,
    printed,
    sample,
    train,
)
from reelwright.model.dit import DiT
from reelwright.model.lora.adapters import lora_parameters
from reelwright.training.distributed.world import World
from reelwright.training.logs import read_log
from reelwright.training.run import build

DEVIATIONS = {name: f"one noisy prompt, {name}" for name in ("largest deviation", "own deviation")}


def print_stability(folder: Path, seeds: int, updates: int) -> None:
    """Train two runs per seed and deviation; print how far they part, and the difference of both deviations."""
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[dict[str, float]]] = {
        name: [_apart(folder, variant, seed, updates) for seed in range(seeds)] for name, variant in DEVIATIONS.items()
    }
    largest, own = found.values()
    for figure in largest[0]:
        for name, rows in found.items():
            printed(f"{name}: {figure}", [row[figure] for row in rows])
        printed(f"own less largest: {figure}", [b[figure] - a[figure] for a, b in zip(largest, own, strict=True)])


def _apart(folder: Path, variant: str, seed: int, updates: int) -> dict[str, float]:
    """Compare two runs: their adapters, the videos that they make of the same noises, their rewards' curves."""
    recipe = policy_recipe(VARIANTS[variant], updates, seed, base_of(folder, seed))
    begun, _ = build(recipe, World.alone("cpu"))
    policies, logs = [], []
    for draw in (0, 1):
        at = folder / f"seed-{seed}-{updates}" / f"{variant}, draw {draw}"
        policies.append(train(recipe, at, of_data=False, rewards={name: Noise(name, draw) for name in USES}))
        logs.append([row for row in read_log(at) if "loss" in row])
    moved = [float((_numbers(policy) - _numbers(begun)).norm()) for policy in policies]
    parted = float((_numbers(policies[0]) - _numbers(policies[1])).norm())
    first, second, before = (sample(model, recipe).astype(np.float32) for model in (*policies, begun.eval()))
    change = np.sqrt(np.square(first - before).mean())
    return {
        "adapters apart, over how far they moved": parted / float(np.mean(moved)),
        "videos apart, over how far they changed": float(np.sqrt(np.square(first - second).mean()) / change),
        **{f"curves of {name} apart (RMS)": _curves(logs, f"reward/{name}") for name in REWARDS},
    }


def _curves(logs: list[list[dict[str, Any]]], name: str) -> float:
    first, second = (np.array([row[name] for row in log]) for log in logs)
    return float(np.sqrt(np.square(first - second).mean()))


def _numbers(model: DiT) -> Tensor:
    return torch.cat([p.detach().flatten() for p in lora_parameters(model)])
