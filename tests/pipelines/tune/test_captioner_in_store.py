"""A captioner tuned on a store's captions: from the command to the columns that it writes."""

import json
import shutil
import subprocess

import numpy as np
import pytest

from reelwright.curation.store import Store
from reelwright.pipelines.annotate.load import load_annotators, prepare_columns
from reelwright.pipelines.annotate.run import annotate_and_record
from reelwright.pipelines.runtime.progress import Progress
from tests.annotate.chat import checkpoints
from tests.conftest import REEL
from tests.footage import write
from tests.pipelines.helpers import curate, recipe_of
from tests.training.tuning.miniature import COLOURS

pytestmark = pytest.mark.usefixtures("ray_local")
SAMPLING = "{fps: 2.0, min_frames: 2, max_frames: 2, short_side: 56}"
SQL = "select clip_id, sources.captions[1] as caption from clips join sources on md5 = source_md5 and state = 'ok'"


@pytest.fixture(scope="module")
def store(tmp_path_factory, ray_local):
    """Six clips of one colour each, with the caption that a person gave the file."""
    folder = tmp_path_factory.mktemp("tune")
    rows = []
    for number in range(6):
        name = list(COLOURS)[number % len(COLOURS)]
        noise = np.random.default_rng(number).integers(-25, 26, (24, 64, 64, 3))
        pictures = np.clip(np.array(COLOURS[name]) + noise, 0, 255).astype(np.uint8)
        write(folder / f"{number}.mp4", list(pictures))
        rows.append({"uri": f"{number}.mp4", "caption": f"a {name} dog"})
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    curate(folder / "store", [folder / "manifest.jsonl"], recipe_of(annotators=[]))
    return folder / "store"


def captioned(store: Store, model, prompt) -> tuple[int, dict[str, str], set[str]]:
    """Clips that were captioned, their captions, and the fingerprints beside them."""
    chat = {"model": str(model), "backend": "transformers", "send": "video", "max_tokens": 8, "concurrency": 4}
    sampling = {"fps": 2.0, "min_frames": 2, "max_frames": 2, "short_side": 56}
    parameters = {"caption": {"chat": chat, "sampling": sampling, "prompt": str(prompt)}}
    recipe = recipe_of(annotators=["caption"], parameters=parameters)
    annotators = load_annotators(recipe)
    with store.committing():
        prepare_columns(store, annotators)
        with Progress("annotate", quiet=True) as progress:
            report = annotate_and_record(store, recipe, annotators, progress)
    rows = store.read("clips", ["clip_id", "caption", "caption_fingerprint"]).to_pylist()
    return (
        report.done["caption"], {row["clip_id"]: row["caption"] for row in rows},
        {row["caption_fingerprint"] for row in rows},
    )  # fmt: skip


def test_a_tuned_captioner_makes_the_stale_captions_and_no_other(store, tmp_path):
    prompt = tmp_path / "short.txt"
    prompt.write_text("version: 1\n\nWhich colour?\n")
    base = checkpoints.qwen_vl(tmp_path / "base")
    command = [*REEL, "tune", "captioner", str(_recipe(tmp_path, base, prompt)), "--store", str(store), "--out",
               str(tmp_path / "tuned"), "--name", "first"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "reel annotate --store STORE --only caption" in done.stdout
    shutil.copytree(store, tmp_path / "store")
    opened = Store.open(tmp_path / "store")
    made, before, old = captioned(opened, base, prompt)
    again, *_ = captioned(opened, base, prompt)
    assert (made, again) == (6, 0)
    made, after, new = captioned(opened, tmp_path / "tuned" / "first" / "model", prompt)
    again, *_ = captioned(opened, tmp_path / "tuned" / "first" / "model", prompt)
    assert (made, again) == (6, 0)
    assert len(old) == len(new) == 1
    assert old.isdisjoint(new)
    assert before != after


def _recipe(folder, base, prompt):
    path = folder / "tune.yaml"
    lines = [f"base: {{model: {base}, dtype: float32}}", f"prompt: {prompt}", f"sampling: {SAMPLING}",
             "data:", f"  sql: \"{SQL}\"", "  workers: 1", "  holdout: 0.3", "  max_tokens: 400",
             "compute: {precision: fp32, per_forward: 4, checkpointing: false, device: cpu}",
             "optim: {lr: 5.0e-3}", "samples_per_step: 4", "steps: 4", "max_new_tokens: 8"]  # fmt: skip
    path.write_text("\n".join(lines) + "\n")
    return path
