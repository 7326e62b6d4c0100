"""A store in which much has been done: runs, failures, a training with samples, an evaluation, a study."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reelwright.curation.store import Store
from reelwright.evaluation.rating.study import Settings, Study
from reelwright.pipelines.evaluate.rating.studies import make_study
from tests.footage import frames, write
from tests.pipelines.app.made import HOSTILE, clip_id, make_store
from tests.pipelines.evaluate.made import make_evaluation

AT = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
STEPS, PROMPTS = 40, ("a red ball", HOSTILE)
RATERS = ("anna", "ben", "chen")


@dataclass(frozen=True)
class Made:
    """What lies where."""

    store: Store
    run: Path
    study: Study
    pairs: Study


def make_worked(folder: Path, *, clips: int = 12) -> Made:
    """Make a store with all of it, and a run's folder beside it."""
    store = make_evaluation(folder)
    make_store(folder / "store", clips=clips)
    store.snapshots.create("first", f"select clip_id from clips where clip_id < '{clip_id(8)}'")
    run = make_run(folder / "runs" / "mini", store)
    store.append("runs", [
        _run("run1", "curate", "finished", {"sources_ok": 4, "clips": clips, "failed": 1}, {"scan": 3.5, "cut": 9.0}),
        _run("run2", "annotate", "interrupted", {"blur": 7}, {"blur": 1.25}),
        _run("run3", "train", "finished", {"steps": STEPS, "snapshot": "first", "folder": str(run)}, {"train": 70.0}),
        _run("run4", "train", "failed", {"steps": 3, "snapshot": HOSTILE, "folder": str(folder / "gone")}, {}),
        _run(HOSTILE[:40], HOSTILE, HOSTILE, {HOSTILE: HOSTILE}, {}),
    ])  # fmt: skip
    store.append("failures", [
        {"uri": f"/footage/{HOSTILE}.mp4", "stage": "probe", "error": f"io: {HOSTILE}", "attempts": 1, "at": AT},
        {"uri": None, "clip_id": clip_id(3), "stage": "blur", "error": "no frame 17", "attempts": 2, "at": AT},
    ])  # fmt: skip
    [evaluation] = store.read("evaluations").to_pylist()
    study = make_study(store, evaluation, Settings("mos", ("overall", "visual_quality"), RATERS, seed=3, repeats=0.0))
    pairs = make_study(store, evaluation, Settings("gsb", ("overall",), RATERS, seed=3, repeats=0.0))
    return Made(store, run, study, pairs)


def make_run(folder: Path, store: Store) -> Path:
    """Make a run's folder: log, recipe, samples of three steps, and a checkpoint that says where it is from."""
    folder.mkdir(parents=True)
    rows: list[dict[str, Any]] = [
        {"step": n, "time": float(n), "loss": 1 / math.sqrt(n), "lr": 1e-4, "val/loss": 1.1 / n, "clips_per_s": 2.0}
        for n in range(1, STEPS + 1)
    ]
    lines = [json.dumps(row) for row in rows] + ['{"step": 41, "loss"', "[1]", '{"step": "x", "loss": 1}']
    (folder / "log.jsonl").write_text("\n".join(lines) + "\n")
    recipe = {"steps": STEPS, "objective": {"kind": "flow"}, "samples": {"prompts": list(PROMPTS)}}
    (folder / "recipe.yaml").write_text(json.dumps(recipe))  # JSON is YAML
    for step in (20, 40):
        where = folder / "samples" / f"step-{step:08d}"
        where.mkdir(parents=True)
        for i in range(len(PROMPTS)):
            write(where / f"{i}.mp4", frames(12, seed=step + i))
    (folder / "samples" / "step-00000040" / "secret.txt").write_text("root: of the run")
    (folder / "samples" / "step-00000040" / "7.mp4").symlink_to("/etc/passwd")
    snapshot = store.snapshots.show("first")
    stated = {"name": "first", "content_hash": snapshot.content_hash, "num_clips": snapshot.num_clips}
    parent = {"path": "/gone/base/checkpoints/step-00000100", "step": 100, "snapshot": {"name": "old"}}
    said = {"format": 1, "step": STEPS, "recipe_fingerprint": "f00d", "snapshot": stated, "parent": parent}
    checkpoint = folder / "checkpoints" / f"step-{STEPS:08d}"
    checkpoint.mkdir(parents=True)
    (checkpoint / "checkpoint.json").write_text(json.dumps(said))
    return folder


def _run(run_id: str, command: str, state: str, counts: dict[str, Any], seconds: dict[str, float]) -> dict[str, Any]:
    return {
        "run_id": run_id, "command": command, "recipe": "inputs: [in]\n", "versions": '{"reelwright": "0"}',
        "counts": json.dumps(counts), "stage_seconds": json.dumps(seconds), "stage_bytes": "{}", "state": state,
        "started_at": AT, "ended_at": AT.replace(hour=4),
    }  # fmt: skip
