"""Tiny policies that learn from computed rewards: runs, rows and the figures over seeds."""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.grpo.pictures import write_plot, write_sheet
from benchmarks.grpo.squares import FPS, FRAMES, PROMPTS, SIDE, Squares
from reelwright.model.codec import load_codec
from reelwright.model.dit import DiT
from reelwright.model.sampling.generator import Generator
from reelwright.model.sampling.settings import Settings
from reelwright.model.sampling.video_file import to_frames
from reelwright.model.text import load_text_encoder
from reelwright.training.distributed.world import World
from reelwright.training.logs import read_log
from reelwright.training.loop import Hooks, Trainer
from reelwright.training.recipe import TrainRecipe
from reelwright.training.rewards.contract import Reward, Score, Video
from reelwright.training.rewards.in_process import InProcess
from reelwright.training.rewards.registry import load
from reelwright.training.run import build

USES: dict[str, dict[str, Any]] = {
    "caption": {"kind": "caption_attributes_standin"},
    "sharpness": {"kind": "sharpness_standin"},
    "colourfulness": {"kind": "annotation", "parameters": {"annotator": "light", "column": "colorfulness"}},
    "smoothness": {"kind": "smoothness_standin"},
}
REWARDS = ("caption", "sharpness", "colourfulness")
"""Of them, those that are optimised; smoothness, which sharpness and colours work against, is held out throughout."""
NOISY = PROMPTS[1]
BASE_STEPS, BASE_SAMPLES = 1000, 16
STEPS, CRITICAL, LR = 8, 3, 4e-3  # of rollouts and policies: half of the published steps, at the same shift
STUDENT_T = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # 97.5 % point, by number of seeds
SAMPLED = 4  # videos per prompt of an evaluation


@dataclass(frozen=True)
class Noise(Reward):
    """A reward whose scores of one prompt are a constant and a little noise, as of a prompt that it cannot judge."""

    of: str = ""
    draw: int = 0

    name, version = "noise", 1

    def __call__(self, videos: Sequence[Video]) -> list[Score]:
        found = reward_of(self.of)(videos)
        return [self._noise(v) if v.prompt == NOISY else s for v, s in zip(videos, found, strict=True)]

    def _noise(self, video: Video) -> float:
        key = self.draw.to_bytes(1)
        digest = hashlib.blake2b(self.of.encode() + video.frames.tobytes(), digest_size=8, key=key).digest()
        return 1e-3 * (int.from_bytes(digest) / 2**64 - 0.5)


@dataclass(frozen=True)
class Variant:
    """A kind of run. weights: of the rewards, by name; the others are held out. optim: beside AdamW at `LR`."""

    weights: dict[str, float] = field(default_factory=lambda: dict.fromkeys(REWARDS, 1.0))
    objective: dict[str, Any] = field(default_factory=dict)
    optim: dict[str, Any] = field(default_factory=dict)
    noisy: bool = False


PLAIN = {"eps": 1.0, "lr": 100.0}
"""An eps far above the gradient: AdamW's step is then lr times the gradient's mean, and keeps its size. The rate makes
the first steps as large as those of AdamW at `LR`."""
WITHOUT_WEIGHTS = 32.0
"""So many times smaller is the gradient without weights, in the mean over the stochastic steps."""


VARIANTS = {
    "three rewards": Variant(),
    **{f"{name} alone": Variant({name: 1.0}) for name in REWARDS},
    "weights of the report": Variant(objective={"weighting": "report"}),
    "without weights": Variant(objective={"weighting": "none"}),
    "plain gradient": Variant(optim=PLAIN),
    "plain gradient, without weights": Variant(objective={"weighting": "none"}, optim=PLAIN),
    "plain gradient, without weights, rate made up for": Variant(
        objective={"weighting": "none"}, optim={**PLAIN, "lr": WITHOUT_WEIGHTS * PLAIN["lr"]}
    ),
    "one noisy prompt, largest deviation": Variant(noisy=True),
    "one noisy prompt, own deviation": Variant(noisy=True, objective={"deviation": "group"}),
}


def learn(folder: Path, args: argparse.Namespace) -> None:
    """Run what is not there yet, print the figures."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = folder / "rows.jsonl"
    for seed in range(args.seeds):
        done = [json.loads(line) for line in rows.read_text().splitlines()] if rows.exists() else []
        there = {row["variant"] for row in done if (row["seed"], row["updates"]) == (seed, args.updates)}
        for name in args.variants or VARIANTS:
            if name not in there:
                row = run(name, seed, args.updates, folder / f"seed-{seed}-{args.updates}")
                print(json.dumps(row), flush=True)
                with rows.open("a") as out:
                    out.write(json.dumps(row) + "\n")
    found = [json.loads(line) for line in rows.read_text().splitlines()]
    found = [row for row in found if row["updates"] == args.updates and row["seed"] < args.seeds]
    report(found)
    place = folder / f"seed-0-{args.updates}"
    write_sheet(args.sheet, [place / f"{name}.npy" for name in ("base", "three rewards", "sharpness alone")])
    if args.plot:
        write_plot(args.plot, folder, args.updates, args.seeds, list(VARIANTS))


# --- runs ----------------------------------------------------------------------------------------------------------


def run(name: str, seed: int, updates: int, folder: Path) -> dict[str, Any]:
    """Train one policy and return its row."""
    variant, began = VARIANTS[name], time.perf_counter()
    base = base_of(folder.parent, seed)
    folder.mkdir(exist_ok=True)
    if not (folder / "base.npy").exists():
        flow = recipe_of({"kind": "flow"}, BASE_STEPS, seed)
        np.save(folder / "base.npy", sample(train(flow, base, of_data=True), flow))
    recipe = policy_recipe(variant, updates, seed, base)
    rewards: dict[str, Reward] = {r: Noise(r) if variant.noisy else reward_of(r) for r in USES}
    policy = train(recipe, folder / name, of_data=False, rewards=rewards)
    np.save(folder / f"{name}.npy", sample(policy, recipe))
    log = [row for row in read_log(folder / name) if "loss" in row]
    third = len(log) // 3
    rise = {r: _mean(log[-third:], _label(variant, r)) - _mean(log[:third], _label(variant, r)) for r in USES}
    before, after = (judged(np.load(folder / f"{which}.npy")) for which in ("base", name))
    return {
        "seed": seed, "updates": updates, "variant": name,
        "rise": rise, "before": before, "after": after,
        "kl": _mean(log[-third:], "kl"), "grad_norm": _mean(log, "grad_norm"),
        "jitter": {r: _jitter(log, _label(variant, r)) for r in USES},
        "calls": sum(row["rollout/calls"] for row in log) / sum(row["rollout/calls_unshared"] for row in log),
        "shares": _shares(log), "seconds": time.perf_counter() - began,
    }  # fmt: skip


def base_of(folder: Path, seed: int) -> Path:
    """Train the network that a seed's policies begin with, unless it is there; return its run."""
    base = folder / f"seed-{seed}-base"
    train(recipe_of({"kind": "flow"}, BASE_STEPS, seed), base, of_data=True)
    return base


def reward_of(name: str) -> Reward:
    """Return one of USES."""
    return load(USES[name]["kind"], USES[name].get("parameters"))


def _label(variant: Variant, reward: str) -> str:
    return f"{'reward' if variant.weights.get(reward) else 'held_out'}/{reward}"


def _mean(rows: Sequence[dict[str, Any]], name: str) -> float:
    return float(np.mean([row[name] for row in rows]))


def _jitter(rows: Sequence[dict[str, Any]], name: str) -> float:
    """Return the deviation of a curve from its running mean of nine updates."""
    values = np.array([row[name] for row in rows])
    smooth = np.convolve(values, np.ones(9) / 9, "valid")
    return float((values[4:-4] - smooth).std())


def _shares(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return seconds per update of the parts of a rollout, and of the rest of a step."""
    parts = {name: _mean(rows, f"rollout/{name}_s") for name in ("network", "decode", "wait")}
    parts["rewards_busy"] = _mean(rows, "scoring/busy_s")
    return parts


def recipe_of(objective: dict[str, Any], steps: int, seed: int, **sections: Any) -> TrainRecipe:
    base = objective["kind"] == "flow"
    return TrainRecipe.model_validate({
        "model": {"hidden_size": 96, "depth": 4, "num_heads": 2, "caption_channels": 64, "adaln_tembed_dim": 64,
                  "text_tokens": 8},
        "text": {"kind": "hashing", "dim": 64, "tokens": 8},
        "data": {"batches_per_step": 1, "caption_dropout": 0.1 if base else 0.0, "store_dtype": "fp32", "fps": FPS,
                 "sizes": [f"{SIDE}x{SIDE}"], "frames": [FRAMES]},
        "tasks": {"t2v": 1},
        "objective": {"reference_tokens": 48, **objective},
        "optim": {"lr": 2e-3, "warmup_steps": 10, "weight_decay": 0.01},
        "compute": {"precision": "fp32"}, "checkpoints": {"every": 30, "keep": 1}, "validation": {"every": 0},
        "log": {"every": 25 if base else 1, "tensorboard": False}, "steps": steps, "seed": seed, **sections,
    })  # fmt: skip


def policy_recipe(variant: Variant, updates: int, seed: int, base: Path) -> TrainRecipe:
    uses = {r: {**USES[r], "weight": w} for r, w in variant.weights.items()}
    held = {r: use for r, use in USES.items() if r not in uses}
    own = {
        "steps": STEPS,
        "critical": CRITICAL,
        "guidance": 1.0,
        "rewards": uses,
        "held_out": held,
        "stop": {"fall": 0},
    }
    objective = {"kind": "grpo", **own, **variant.objective}
    return recipe_of(
        objective, updates, seed, init=str(base), lora={"rank": 16, "alpha": 16},
        optim={"lr": LR, "weight_decay": 0.0, **variant.optim},
    )  # fmt: skip


def train(recipe: TrainRecipe, folder: Path, *, of_data: bool, rewards: dict[str, Reward] | None = None) -> DiT:
    """Train, or go on with it, and return the network."""
    world = World.alone("cpu")
    model, parent = build(recipe, world)
    about = {"recipe_fingerprint": recipe.fingerprint, "snapshot": {"content_hash": "squares"}, "parent": parent,
             "recipe": recipe.model_dump(mode="json")}  # fmt: skip
    scorer = InProcess(rewards) if rewards else None
    data = Squares.of(recipe, BASE_SAMPLES if of_data else len(PROMPTS), of_data=of_data)
    outcome = Trainer(
        recipe=recipe, data=data, model=model, world=world, folder=folder, metadata=about,
        hooks=Hooks(say=lambda line: None, scorer=scorer),
    ).run()  # fmt: skip
    if scorer:
        scorer.close()
    if not outcome.finished:
        sys.exit(f"stopped at step {outcome.step} of {folder}; with --keep the same command goes on")
    return model.eval()


# --- figures -------------------------------------------------------------------------------------------------------


def sample(model: DiT, recipe: TrainRecipe) -> np.ndarray:
    """Return videos of all prompts from fixed noises by the ODE, uint8 [N, F, H, W, 3]."""
    generator = Generator(model, load_codec(recipe.codec), load_text_encoder(recipe.text))
    settings = Settings.of(width=SIDE, height=SIDE, frames=FRAMES, steps=STEPS, shift=12.0, guidance=1.0)
    prompts = [prompt for prompt in PROMPTS for _ in range(SAMPLED)]
    return np.stack([to_frames(video) for video in generator.text(prompts, list(range(len(prompts))), settings)])


def judged(videos: np.ndarray) -> dict[str, float]:
    """Return the mean of each reward, and meters of hacking, of an evaluation's videos."""
    shown = [Video(v, FPS, PROMPTS[i // SAMPLED]) for i, v in enumerate(videos)]
    out = {name: float(np.mean([s for s in reward_of(name)(shown) if isinstance(s, float)])) for name in USES}
    pixels = videos.astype(np.float32)
    out["brightness"] = float(pixels.mean())
    out["saturation"] = float((pixels.max(-1) - pixels.min(-1)).mean())
    out["motion"] = float(np.abs(np.diff(pixels, axis=1)).mean())
    return out


def report(rows: list[dict[str, Any]]) -> None:
    """Print means over seeds with their intervals."""
    for name in dict.fromkeys(row["variant"] for row in rows):
        of = [row for row in rows if row["variant"] == name]
        for reward in USES:
            printed(f"{name}: rise of {reward}", [row["rise"][reward] for row in of])
            printed(f"{name}: jitter of {reward}", [row["jitter"][reward] for row in of])
        for meter in of[0]["before"]:
            printed(f"{name}: {meter} after less before", [row["after"][meter] - row["before"][meter] for row in of])
        for figure in ("kl", "grad_norm", "calls", "seconds"):
            printed(f"{name}: {figure}", [row[figure] for row in of])
        for part in of[0]["shares"]:
            printed(f"{name}: {part} seconds per update", [row["shares"][part] for row in of])


def printed(name: str, values: Sequence[float]) -> None:
    """Print the mean over seeds with its 95 % interval."""
    found = np.array(values)
    if len(found) < 2:
        print(f"{name} {found[0]:.4g} (one seed)")
        return
    half = STUDENT_T[len(found)] * found.std(ddof=1) / np.sqrt(len(found))
    print(f"{name} {found.mean():.4g} ± {half:.2g} ({len(found)} seeds)")
