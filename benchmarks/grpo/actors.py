"""Where an update's time goes with rewards as Ray actors: rollouts, waiting for scores, training; and idle shares."""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.grpo.learning import USES, VARIANTS, base_of, policy_recipe, reward_of
from benchmarks.grpo.squares import FPS, PROMPTS, Squares
from reelwright.pipelines.train.reward_actors import ActorScorer, actors
from reelwright.pipelines.train.reward_pools import PoolSettings
from reelwright.training.batch import Batch
from reelwright.training.distributed.world import World
from reelwright.training.logs import read_log
from reelwright.training.loop import Hooks, Trainer
from reelwright.training.rewards.contract import Video
from reelwright.training.rl.paths import chosen
from reelwright.training.run import build

PARTS = 4
"""Micro-batches of an update: the first one's videos are scored while the network makes those of the second."""
GROUP = 4  # videos per prompt, as the recipe has it by default
LIMIT_S = 300.0
SIZES = ((9, 64), (33, 128), (49, 256))  # frames and side of videos that are scored with nothing beside
ROUNDS = 3


@dataclass(frozen=True)
class InParts:
    """The batches of the squares, each in micro-batches of two prompts."""

    inner: Squares

    def batches(self, start_step: int) -> Iterator[Batch]:
        """Yield micro-batches from a step on."""
        size = len(PROMPTS) // PARTS
        for batch in self.inner.batches(start_step):
            for micro in range(PARTS):
                at = slice(micro * size, (micro + 1) * size)
                yield replace(
                    batch, latents=batch.latents[at], text=chosen(batch.text, list(range(len(PROMPTS)))[at]),
                    seeds=batch.seeds[at], clip_ids=batch.clip_ids[at], captions=batch.captions[at], micro=micro,
                )  # fmt: skip

    def validation(self) -> Sequence[Batch]:
        """Return no batches."""
        return []


def print_shares(folder: Path, args: argparse.Namespace) -> None:
    """Train for some updates and print the means of all but the first, with the smallest and the largest."""
    recipe = policy_recipe(VARIANTS["three rewards"], args.updates, 0, base_of(folder, 0))
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"batches_per_step": PARTS})})
    world = World.alone("cpu")
    model, parent = build(recipe, world)
    about = {"recipe_fingerprint": recipe.fingerprint, "snapshot": {"content_hash": "squares"}, "parent": parent,
             "recipe": recipe.model_dump(mode="json")}  # fmt: skip
    run = folder / f"actors-{args.updates}"
    with actors({name: PoolSettings(reward_of(name), 1, LIMIT_S) for name in USES}, world) as scorer:
        Trainer(
            recipe=recipe, data=InParts(Squares.of(recipe, len(PROMPTS), of_data=False)), model=model, world=world,
            folder=run, metadata=about, hooks=Hooks(say=lambda line: None, scorer=scorer),
        ).run()  # fmt: skip
        for frames, side in SIZES:
            _print_alone(scorer, frames, side)
    rows = [row for row in read_log(run) if "rollout/training_s" in row]
    parts = {
        "rollouts": ("rollout/network_s", "rollout/decode_s"),
        "waiting for scores": ("rollout/wait_s",),
        "training": ("rollout/training_s",),
    }
    whole = np.array([sum(row[name] for names in parts.values() for name in names) for row in rows])
    for part, names in parts.items():
        _print(f"share of the time: {part}", np.array([sum(row[name] for name in names) for row in rows]) / whole)
    _print("idle share of the slowest reward", np.array([row["scoring/slowest_idle_share"] for row in rows]))
    _print("seconds per update", whole)
    for name in USES:
        _print(f"{name}: busy seconds per update", np.array([row[f"scoring/{name}/busy_s"] for row in rows]))


def _print_alone(scorer: ActorScorer, frames: int, side: int) -> None:
    """Print the idle share where nothing but rewards is waited for: videos of an update, handed in at once."""
    draw = np.random.default_rng(0)
    size, count = (frames, side, side, 3), len(PROMPTS) // PARTS * GROUP
    videos = [Video(draw.integers(256, size=size, dtype=np.uint8), FPS, PROMPTS[0]) for _ in range(count)]
    scorer.submit(videos).result()
    scorer.figures()
    idle, busy = [], []
    for _ in range(ROUNDS):
        for pending in [scorer.submit(videos) for _ in range(PARTS)]:
            pending.result()
        told = scorer.figures()
        slowest = max(USES, key=lambda name: told[f"{name}/busy_s"])
        busy.append(told[f"{slowest}/busy_s"])
        idle.append(told[f"{slowest}/idle_s"] / (told[f"{slowest}/idle_s"] + busy[-1]))
    name = f"scoring alone, {frames}x{side}x{side}"
    _print(f"{name}: seconds per video of the slowest", np.array(busy) / (PARTS * count))
    _print(f"{name}: idle share of the slowest", np.array(idle))


def _print(name: str, values: np.ndarray) -> None:
    print(f"{name} {values.mean():.3f} ({values.min():.3f} to {values.max():.3f} of {len(values)})")
