"""One seed of the study: train, evaluate, find the weak category, weigh its footage up, train again, evaluate again."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.closed_loop.footage import FRAMES, HEIGHT, KINDS, PROMPTS, WIDTH, frames_of
from reelwright.curation.store import Store
from reelwright.curation.store.schema import field
from reelwright.pipelines.browse.balance.evaluated import read_evaluated
from reelwright.pipelines.browse.balance.weak import Advice, advise
from reelwright.pipelines.generate.run import find_source, load
from reelwright.pipelines.train.run import Job, run_here
from reelwright.training.recipe import TrainRecipe

MEASURE = "likeness"
HELD_OUT, SEEDS = 6, 2  # clips of each kind that no store has; videos per prompt
SQL = "select clip_id from clips"


@dataclass(frozen=True)
class Evaluation:
    """likeness [prompts, SEEDS] by kind; frames: of the first video of each kind, uint8 [F, H, W, 3]."""

    name: str
    likeness: dict[str, np.ndarray]
    frames: dict[str, np.ndarray]


def recipe_of(seed: int, steps: int, cache: Path) -> TrainRecipe:
    """Return a recipe like the demonstration's, of a smaller network."""
    return TrainRecipe.model_validate({
        "model": {"hidden_size": 128, "depth": 4, "num_heads": 2, "caption_channels": 64, "adaln_tembed_dim": 128,
                  "text_tokens": 16},
        "text": {"kind": "hashing", "dim": 64, "tokens": 16},
        "data": {"sizes": [f"{WIDTH}x{HEIGHT}"], "frames": [FRAMES], "fps": 8, "tokens_per_batch": 700,
                 "batches_per_step": 1, "holdout": 0, "caption_kinds": ["source"], "workers": 1,
                 "encode": {"latents": "cached", "text": "cached", "cache_dir": str(cache)}},
        "tasks": {"t2v": 1}, "optim": {"lr": 1.5e-3, "warmup_steps": 20, "ema": 0.98},
        "compute": {"precision": "fp32"}, "checkpoints": {"every": 200, "keep": 1}, "validation": {"every": 0},
        "log": {"every": 100, "tensorboard": False, "clip_loss_bands": 4}, "steps": steps, "seed": seed,
    })  # fmt: skip


def train(store: Store, snapshot: str, recipe: TrainRecipe, out: Path, say: Any) -> Path:
    """Train, or go on, in this process; return the run's folder."""
    job = Job(recipe, "closed", snapshot, store.uri, str(out))
    if code := run_here(job, say=say):
        raise SystemExit(code)
    return job.folder


def evaluate(store: Store, run: Path, name: str, seed: int) -> Evaluation:
    """Generate each prompt with each seed, measure its likeness, and write it all into the store's tables."""
    from reelwright.model.sampling.settings import Settings

    loaded = load(find_source(run))
    settings = Settings.of(width=WIDTH, height=HEIGHT, frames=FRAMES, steps=16, guidance=2.0)
    real = {kind: np.stack([_small(frames_of(kind, 1000 + i)) for i in range(HELD_OUT)]) for kind in KINDS}
    usual = {kind: np.mean([margin(frames_of(kind, 2000 + i), kind, real) for i in range(HELD_OUT)]) for kind in KINDS}
    rows, mp4s, shown = [], {}, {}
    likeness = {kind: np.zeros((len(PROMPTS[kind]), SEEDS)) for kind in KINDS}
    for kind, prompts in PROMPTS.items():
        texts = [prompt for prompt in prompts for _ in range(SEEDS)]
        noises = [1000 * seed + 10 * i + k for i in range(len(prompts)) for k in range(SEEDS)]
        videos = loaded.generator.text(texts, noises, settings).clamp(-1, 1)  # [B, 3, F, H, W]
        frames = ((videos + 1) * 127.5).round().byte().permute(0, 2, 3, 4, 1).numpy()
        shown[kind] = frames[::SEEDS]
        for n, (text, video) in enumerate(zip(texts, frames, strict=True)):
            value = float(margin(video, kind, real) / usual[kind])
            likeness[kind].reshape(-1)[n] = value
            key = f"{name}-{kind}-{n}"
            rows.append({
                "generation_id": key, "evaluation_id": name, "model": "toy", "prompt_id": f"{kind}-{n // SEEDS}",
                "prompt": text, "category": kind, "task": "t2v", "seed": noises[n], "state": "ok", MEASURE: value,
                "lineage": _json(loaded.about), "at": datetime.now(UTC),
            })  # fmt: skip
            mp4s[key] = _mp4(video)
    meaning = "how much nearer it lies to real clips of its own kind than to others'; 1: as real clips do"
    store.ensure_columns("generations", [field(MEASURE, pa.float64(), meaning)])
    store.append("evaluations", [{"evaluation_id": name, "name": name, "at": datetime.now(UTC), "models": ["toy"]}])
    store.add_generations(rows, mp4s)
    return Evaluation(name, likeness, shown)


def weigh(store: Store, evaluation: str, snapshot: str, name: str) -> Advice:
    """Freeze the same clips with the weights that the evaluation asks for."""
    found = advise(store, read_evaluated(store, evaluation, measure=MEASURE), snapshot=snapshot)
    if found.weights is not None:
        store.snapshots.create(name, SQL, weights=found.weights)
    return found


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


def _mp4(video: np.ndarray) -> bytes:
    from benchmarks.closed_loop.footage import FPS
    from reelwright.pipelines.demo import footage

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        footage.write_clip(path, video, fps=FPS)
        return path.read_bytes()


def _json(about: dict[str, Any]) -> str:
    import json

    return json.dumps(about, default=str)
