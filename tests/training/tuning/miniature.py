"""Tiny clips whose content follows a rule, as files of conversations, and recipes that learn the rule in seconds."""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from reelwright.curation.media.encode import EncodeConfig
from reelwright.curation.media.unencoded import Unencoded, encode_clip
from reelwright.curation.store import Store

COLOURS = {"red": (200, 40, 40), "green": (40, 180, 60), "blue": (50, 60, 210), "grey": (130, 130, 130)}
FAST = EncodeConfig(preset="ultrafast", fps=None, audio="drop")
SETTINGS = {
    "base.dtype": "float32", "compute.precision": "fp32", "compute.per_forward": 8, "compute.checkpointing": False,
    "compute.device": "cpu", "sampling": {"fps": 2.0, "min_frames": 2, "max_frames": 4, "short_side": 56},
    "samples_per_step": 8, "optim.lr": 5e-3, "lora.dropout": 0.0, "data.workers": 1, "save_every": 1000,
    "data.holdout": 0.3, "max_new_tokens": 12,
}  # fmt: skip


def clip(colour: tuple[int, int, int], seed: int, frames: int = 8, fps: float = 4.0) -> bytes:
    """An mp4 of 56 × 56 pixels of about one colour, with noise."""
    noise = np.random.default_rng(seed).integers(-25, 26, (frames, 56, 56, 3))
    pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
    return encode_clip(Unencoded(pixels, fps), FAST)


def conversations(folder: Path, count: int) -> Path:
    """A file of conversations: each clip's answer is its colour."""
    (folder / "videos").mkdir(parents=True)
    lines = []
    for number in range(count):
        name = list(COLOURS)[number % len(COLOURS)]
        (folder / "videos" / f"{number}.mp4").write_bytes(clip(COLOURS[name], number))
        turns = [{"from": "human", "value": "<video>\nWhich colour?"}, {"from": "gpt", "value": f"a {name} dog"}]
        lines.append(json.dumps({"video": f"videos/{number}.mp4", "conversations": turns}))
    path = folder / "train.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def rated_store(folder: Path, prompts: int) -> Store:
    """Two generations per prompt, of 5 levels of grey; people like light ones and score the level, roughly.

    Three people answer about every video and every pair. A pair of equal levels is the same to them.
    """
    store = Store.open(folder, create=True)
    draws = np.random.default_rng(3)
    rows, mp4s, ratings = [], {}, []
    for prompt in range(prompts):
        levels = draws.integers(1, 6, 2)
        names = [f"p{prompt}m{model}" for model in (0, 1)]
        for model, (name, level) in enumerate(zip(names, levels, strict=True)):
            mp4s[name] = clip((40 * int(level) + 15,) * 3, 2 * prompt + model)
            rows.append({
                "generation_id": name, "evaluation_id": "e", "model": f"m{model}", "prompt_id": f"p{prompt}",
                "prompt": f"a dog {prompt}", "state": "ok", "width": 56, "height": 56, "fps": 4.0, "num_frames": 8,
                "at": datetime(2026, 1, 2, tzinfo=UTC),
            })  # fmt: skip
        for rater in ("ann", "bob", "cy"):
            noisy = [int(np.clip(level + draws.choice([-1, 0, 1], p=[0.1, 0.8, 0.1]), 1, 5)) for level in levels]
            ratings += [_rating(rater, name, value) for name, value in zip(names, noisy, strict=True)]
            ratings.append(_rating(rater, names[0], int(np.sign(levels[0] - levels[1])), names[1]))
    store.add_generations(rows, mp4s)
    store.append("evaluations", [{"evaluation_id": "e", "name": "rated", "models": ["m0", "m1"], "lineage": "{}",
                                  "settings": "{}", "prompts": prompts, "wanted": len(rows)}])  # fmt: skip
    store.append("ratings", ratings)
    return store


def _rating(rater: str, one: str, value: int, other: str | None = None) -> dict[str, object]:
    return {
        "rating_id": f"{rater}:{one}:{other}", "kind": "gsb" if other else "mos", "generation_id": one,
        "other_id": other, "dimension": "overall", "value": float(value), "rater": rater, "is_human": True, "repeat": 0,
    }  # fmt: skip
