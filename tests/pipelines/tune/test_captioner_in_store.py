"""A captioner tuned on a store's captions: from the command to the columns that it writes."""

import json
import subprocess

import numpy as np
import pyarrow as pa
import pytest

from reelwright.annotate.backends.clip_encoder import ClipModel
from reelwright.curation.store import Store
from reelwright.errors import UserError
from reelwright.pipelines.annotate.load import load_annotators, prepare_columns
from reelwright.pipelines.annotate.run import annotate_and_record
from reelwright.pipelines.runtime.progress import Progress
from reelwright.pipelines.tune.gate import compare_captioners
from reelwright.pipelines.tune.run import caption_parameters
from tests.annotate.chat import checkpoints
from tests.annotate.checkpoints_clip import clip_folder  # noqa: F401 - a fixture
from tests.conftest import REEL
from tests.footage import write
from tests.pipelines.helpers import curate, recipe_of
from tests.training.tuning.miniature import COLOURS

pytestmark = pytest.mark.usefixtures("ray_local")
SAMPLING = "{fps: 2.0, min_frames: 2, max_frames: 2, short_side: 56}"
SQL = "select clip_id, sources.caption as caption from clips join sources on md5 = source_md5 and state = 'ok'"


@pytest.fixture(scope="module")
def store(tmp_path_factory, ray_local):
    """Six clips of one colour each, with the caption that a person gave the file."""
    folder = tmp_path_factory.mktemp("tune")
    rows = []
    for number in range(6):
        name = list(COLOURS)[number % len(COLOURS)]
        noise = np.random.default_rng(number).integers(-25, 26, (60, 96, 96, 3))
        pictures = np.clip(np.array(COLOURS[name]) + noise, 0, 255).astype(np.uint8)
        write(folder / f"{number}.mp4", list(pictures))
        rows.append({"uri": f"{number}.mp4", "caption": f"a {name} dog."})
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    curate(folder / "store", [folder / "manifest.jsonl"], recipe_of(annotators=[]))
    return folder / "store"


def captioned(store: Store, parameters) -> int:
    """Caption what is stale; the number of clips that were."""
    recipe = recipe_of(annotators=["caption"], parameters={"caption": parameters})
    annotators = load_annotators(recipe)
    with store.committing():
        prepare_columns(store, annotators)
        with Progress("annotate", quiet=True) as progress:
            report = annotate_and_record(store, recipe, annotators, progress)
    assert not report.failed, store.read("failures", ["stage", "error", "detail"]).to_pylist()[:1]
    return report.done["caption"]


@pytest.mark.exhaustive
def test_a_tuned_captioner_makes_the_stale_captions_and_no_other(store, tmp_path, clip_folder):  # noqa: F811
    prompt = tmp_path / "short.txt"
    prompt.write_text("version: 1\n\nWhich colour?\n")
    base = checkpoints.qwen_vl(tmp_path / "base")
    command = [*REEL, "tune", "captioner", str(_recipe(tmp_path, base, prompt)), "--store", str(store), "--out",
               str(tmp_path / "tuned"), "--name", "first"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "reel annotate --store STORE --only caption" in done.stdout
    opened = Store.open(store)
    tuned = caption_parameters(tmp_path / "tuned" / "first", "cpu")
    assert (captioned(opened, tuned), captioned(opened, tuned)) == (6, 0)
    ids = opened.read("clips", ["clip_id"]).column(0).to_pylist()
    by_base = load_annotators(recipe_of(annotators=["caption"], parameters={
        "caption": tuned | {"chat": tuned["chat"] | {"model": str(base)}},
    }))["caption"].fingerprint  # fmt: skip
    old = {"clip_id": ids[:4], "caption": ["old"] * 4, "caption_fingerprint": [by_base] * 4}
    opened.merge("clips", pa.table(old), on="clip_id")
    assert (captioned(opened, tuned), captioned(opened, tuned)) == (4, 0)
    rows = opened.read("clips", ["caption", "caption_fingerprint"]).to_pylist()
    assert "old" not in {row["caption"] for row in rows}
    assert by_base not in {row["caption_fingerprint"] for row in rows}
    lines: list[str] = []
    clip = ClipModel(model=str(clip_folder), device="cpu")
    with pytest.raises(UserError, match="all 6 captions are by this captioner itself"):
        compare_captioners(opened, tuned, clip, 4, lines.append)
    same = opened.read("clips", ["clip_id", "caption"]).to_pylist()
    said = {row["clip_id"]: row["caption"] for row in same}
    before = {"clip_id": ids[:4], "caption": [said[name] for name in ids[:4]], "caption_fingerprint": [by_base] * 4}
    opened.merge("clips", pa.table(before), on="clip_id")
    found = compare_captioners(opened, tuned, clip, 6, lines.append)
    assert (found.clips, found.is_flagged) == (4, False)  # the two by the tuned one itself are left out
    assert found.after == pytest.approx(found.before)
    assert lines[-1] == "gate          passed"
    closer = max(
        ("a cat.", "night", "blue", "0"), key=lambda text: _before(opened, ids[:4], text, by_base, clip, tuned)
    )
    _before(opened, ids[:4], closer, by_base, clip, tuned)
    asked = ["--store", str(store), "--clips", "4", "--clip-model", str(clip_folder), "--device", "cpu"]
    gate = subprocess.run(
        [*REEL, "tune", "gate", str(tmp_path / "tuned" / "first"), *asked], capture_output=True, text=True
    )
    assert gate.returncode == 3, gate.stdout + gate.stderr
    assert "gate          flagged: a fall of" in gate.stdout


def _before(store, ids, text, fingerprint, clip, tuned) -> float:
    """Give clips a caption of another captioner; return the share of the similarity that is lost."""
    count = len(ids)
    rows = {"clip_id": ids, "caption": [text] * count, "caption_fingerprint": [fingerprint] * count}
    store.merge("clips", pa.table(rows), on="clip_id")
    found = compare_captioners(store, tuned, clip, count, lambda _: None)
    return found.fall if found.before > 0 else -1.0


def _recipe(folder, base, prompt):
    path = folder / "tune.yaml"
    lines = [f"base: {{model: {base}, dtype: float32}}", f"prompt: {prompt}", f"sampling: {SAMPLING}",
             "data:", f"  sql: \"{SQL}\"", "  workers: 1", "  holdout: 0.3", "  max_tokens: 400",
             "compute: {precision: fp32, per_forward: 4, checkpointing: false, device: cpu}",
             "optim: {lr: 5.0e-3, schedule: constant}", "lora: {dropout: 0.0}", "samples_per_step: 4", "steps: 25",
             "max_new_tokens: 12"]  # fmt: skip
    path.write_text("\n".join(lines) + "\n")
    return path
