"""One seed of the study by the commands that a user has: train, evaluate, weigh up, train again, evaluate again.

`reel` makes everything but the measure: likeness needs real clips of each prompt's kind, so it is computed here from
the videos that `reel evaluate` left in the store, and added as a column of `generations`, which `reel balance --weak`
takes as it takes any measure.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from benchmarks.closed_loop.commands import reel
from benchmarks.closed_loop.footage import FRAMES, HEIGHT, KINDS, PROMPTS, WIDTH, frames_of
from reelwright.curation.store import Store
from reelwright.curation.store.schema import field
from reelwright.evaluation.suites.suite import Prompt
from reelwright.evaluation.suites.writing import write_suite

MEASURE, MODEL, RECIPE = "likeness", "toy", "closed"
HELD_OUT, SEEDS = 6, 2  # clips of each kind that no store has; videos per prompt
SQL = "select clip_id from clips"


@dataclass(frozen=True)
class Evaluation:
    """likeness [prompts, SEEDS] by kind; frames: of the first video of each prompt by kind, uint8 [F, H, W, 3]."""

    name: str
    likeness: dict[str, np.ndarray]
    frames: dict[str, list[np.ndarray]]


def recipe_of(seed: int, steps: int, cache: Path) -> dict[str, Any]:
    """Return a recipe like the demonstration's, of a smaller network."""
    return {
        "model": {"hidden_size": 128, "depth": 4, "num_heads": 2, "caption_channels": 64, "adaln_tembed_dim": 128,
                  "text_tokens": 16},
        "text": {"kind": "hashing", "dim": 64, "tokens": 16},
        "data": {"sizes": [f"{WIDTH}x{HEIGHT}"], "frames": [FRAMES], "fps": 8, "tokens_per_batch": 700,
                 "batches_per_step": 1, "holdout": 0, "caption_kinds": ["source"], "workers": 1,
                 "encode": {"latents": "cached", "text": "cached", "cache_dir": str(cache)}},
        "tasks": {"t2v": 1}, "optim": {"lr": 1.5e-3, "warmup_steps": 20, "ema": 0.98},
        "compute": {"precision": "fp32"}, "checkpoints": {"every": 200, "keep": 1}, "validation": {"every": 0},
        "log": {"every": 100, "tensorboard": False, "clip_loss_bands": 4}, "steps": steps, "seed": seed,
    }  # fmt: skip


def write_recipe(path: Path, seed: int, steps: int, cache: Path) -> Path:
    """Write the recipe that `reel train` takes."""
    path.write_text(yaml.safe_dump(recipe_of(seed, steps, cache), sort_keys=False), encoding="utf-8")
    return path


def write_prompts(path: Path) -> Path:
    """Write the suite: four prompts of each kind, SEEDS videos of each."""
    write_suite(path, "kinds", [
        Prompt(f"{kind}-{i}", prompt, kind, samples=SEEDS)
        for kind, prompts in PROMPTS.items() for i, prompt in enumerate(prompts)
    ])  # fmt: skip
    return path


def train(store: Store, snapshot: str, recipe: Path, out: Path) -> Path:
    """Train, or go on; return the run's folder."""
    reel("train", str(recipe), "--snapshot", snapshot, "--out", str(out), store=store.uri)
    (run,) = out.glob(f"{RECIPE}-{snapshot}-*")
    return run


def evaluate(store: Store, run: Path, suite: Path, name: str, seed: int) -> Evaluation:
    """Generate each prompt with each seed, measure its likeness, and read it."""
    how = ("--steps", "16", "--guidance", "2", "--no-measures", "--workers", "1", "--quiet")
    asked = ("--prompts", str(suite), "--name", name, "--seed", str(1000 * seed))
    reel("evaluate", f"{MODEL}={run}", *asked, *how, store=store.uri)
    return measure(store, name)


def measure(store: Store, evaluation: str) -> Evaluation:
    """Add the column `likeness` to an evaluation's generations, and return it by kind."""
    rows = store.sql(
        "select g.generation_id, g.category, g.prompt_id, g.sample, g.state from generations g join evaluations e "
        "using (evaluation_id) where e.name = ? order by g.prompt_id, g.sample", params=[evaluation],
    ).to_pylist()  # fmt: skip
    if missing := sum(row["state"] != "ok" for row in rows):
        raise SystemExit(f"{missing} of {len(rows)} videos of {evaluation} were not made")
    videos = {name: _frames(mp4) for name, mp4 in store.read_generated(row["generation_id"] for row in rows)}
    real = {kind: np.stack([_small(frames_of(kind, 1000 + i)) for i in range(HELD_OUT)]) for kind in KINDS}
    usual = {kind: np.mean([margin(frames_of(kind, 2000 + i), kind, real) for i in range(HELD_OUT)]) for kind in KINDS}
    likeness: dict[str, dict[str, list[float]]] = {kind: {} for kind in KINDS}
    shown: dict[str, list[np.ndarray]] = {kind: [] for kind in KINDS}
    for row in rows:
        kind, video = row["category"], videos[row["generation_id"]]
        row[MEASURE] = float(margin(video, kind, real) / usual[kind])
        likeness[kind].setdefault(row["prompt_id"], []).append(row[MEASURE])
        if row["sample"] == 0:
            shown[kind].append(video)
    meaning = "how much nearer it lies to real clips of its own kind than to others'; 1: as real clips do"
    store.ensure_columns("generations", [field(MEASURE, pa.float64(), meaning)])
    kept = pa.Table.from_pylist([{name: row[name] for name in ("generation_id", MEASURE)} for row in rows])
    store.merge("generations", kept, "generation_id")
    return Evaluation(evaluation, {kind: np.array(list(of.values())) for kind, of in likeness.items()}, shown)


def weigh(store: Store, evaluation: str, snapshot: str, name: str, file: Path, sql: str = SQL) -> dict[str, Any]:
    """Freeze the same clips with the weights that the evaluation asks for; return what `reel balance --json` says."""
    asked = ("--weak", evaluation, "--measure", MEASURE, "--snapshot", snapshot, "--out", str(file))
    found: dict[str, Any] = json.loads(reel("balance", *asked, "--json", store=store.uri, is_read=True))
    if found["weights"]:
        freeze(store, name, "--weights", str(file), sql=sql)
    return found


def freeze(store: Store, name: str, *how: str, sql: str = SQL) -> None:
    """Make a snapshot."""
    reel("snapshot", "create", name, "--sql", sql, *how, store=store.uri)


def margin(video: np.ndarray, kind: str, real: dict[str, np.ndarray]) -> float:
    """Compare distances to the nearest real clips: (other - own) / (other + own); above 0, its own kind is nearest.

    Args:
        video: uint8 [F, H, W, 3].
        kind: of its prompt.
        real: kind -> small pictures [clips, D] of clips that no run has seen.
    """
    small = _small(video)
    nearest = {one: float(np.sqrt(np.square(clips - small).mean(1)).min()) for one, clips in real.items()}
    own, other = nearest.pop(kind), min(nearest.values())
    return (other - own) / (other + own)


def _small(video: np.ndarray) -> np.ndarray:
    """Return the mean frame at 14 x 8 px, which shows where colours lie and no detail, [D]."""
    import cv2

    mean = video.astype(np.float32).mean(0)
    return np.asarray(cv2.resize(mean, (14, 8), interpolation=cv2.INTER_AREA)).reshape(-1)


def _frames(mp4: bytes) -> np.ndarray:
    """Return a video's frames, uint8 [F, H, W, 3] RGB."""
    import av

    with av.open(BytesIO(mp4)) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])
