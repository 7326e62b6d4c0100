"""An evaluation in a store, of small real videos, as `reel evaluate` leaves it."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reelwright.curation.store import Store
from tests.footage import frames, write

AT = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
PROMPTS = (
    ("p0", "A red kite turns over a wet field <b>slowly</b>", "animals"),
    ("p1", "Two cooks toss a pan; the camera moves back\nand up", "people"),
    ("p2", "", "people"),
    ("p3", "قطة تجري \u202e في المطر", "animals"),
)


def mp4(tmp_path: Path, seed: int, count: int = 10, size: tuple[int, int] = (160, 96)) -> bytes:
    """A video whose file tells of its model, as those of `reel generate` do."""
    pictures, comment = frames(count, *size, seed=seed), f"made by model {seed}"
    return write(tmp_path / f"{seed}.mp4", pictures, fps=10, comment=comment).read_bytes()


def make_evaluation(
    tmp_path: Path,
    *,
    models: Sequence[str] = ("base", "tuned"),
    prompts: Sequence[tuple[str, str, str]] = PROMPTS,
    failed: Sequence[tuple[str, str]] = (("tuned", "p3"),),
    name: str = "first",
    size: tuple[int, int] = (160, 96),
    count: int = 10,
) -> Store:
    """A store with one evaluation of a video per model and prompt; `failed` are (model, prompt) that have none."""
    store = Store.open(tmp_path / "store", create=True)
    rows: list[dict[str, Any]] = []
    videos: dict[str, bytes] = {}
    for m, model in enumerate(models):
        for p, (prompt_id, prompt, category) in enumerate(prompts):
            is_ok = (model, prompt_id) not in failed
            row: dict[str, Any] = {
                "generation_id": f"{m}{p}aa", "evaluation_id": "e1f0", "model": model, "prompt_id": prompt_id,
                "prompt": prompt, "category": category, "prompt_kind": "short", "task": "t2v", "sample": 0, "seed": 7,
                "state": "ok" if is_ok else "failed", "error": None if is_ok else "out of memory", "at": AT,
                "width": size[0], "height": size[1], "fps": 10.0, "num_frames": count, "wall_s": 1.5 + m,
            }  # fmt: skip
            rows.append(row)
            if is_ok:
                videos[row["generation_id"]] = mp4(tmp_path, 10 * m + p, count, size)
    store.append(
        "evaluations",
        [
            {
                "evaluation_id": "e1f0", "name": name, "at": AT, "suite": "tiny", "suite_hash": "abc",
                "models": list(models), "settings": json.dumps({"steps": 4, "seed": 7}), "prompts": len(prompts),
                "wanted": len(models) * len(prompts), "lineage": json.dumps({m: {"run": m} for m in models}),
            }
        ],
    )  # fmt: skip
    store.add_generations(rows, videos)
    return store
