"""Tiny clips whose content follows a rule, as files of conversations, and recipes that learn the rule in seconds."""

import json
from pathlib import Path

import numpy as np

from reelwright.curation.media.encode import EncodeConfig
from reelwright.curation.media.unencoded import Unencoded, encode_clip

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
