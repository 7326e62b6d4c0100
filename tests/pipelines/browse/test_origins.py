"""`reel lineage` of what is no checkpoint: exports, weights, LoRA files, generated video, clips."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from reelwright.curation.store import Store
from reelwright.curation.store.export import export
from reelwright.model.checkpoint import save_model
from reelwright.model.config import DiTConfig, LoRAConfig
from reelwright.model.dit import DiT
from reelwright.model.lora.adapters import add_lora
from reelwright.model.lora.files import save_lora
from reelwright.model.sampling.video_file import write_image, write_video
from reelwright.pipelines.generate.loras import sha256
from reelwright.training.checkpoints import Checkpoints
from reelwright.training.recipe import TrainRecipe
from reelwright.training.weights.convert import export_lora, export_weights, import_lora
from tests import footage
from tests.curation.store.conftest import add_source

TINY = DiTConfig(hidden_size=48, depth=1, num_heads=4, caption_channels=24, adaln_tembed_dim=16)
QUERY = "SELECT clip_id FROM clips WHERE source_md5 = 'aa'"
Call = Callable[..., tuple[int, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run `reel lineage ARGUMENTS`, or another command's, here: (exit code, output)."""
    import sys

    from reelwright.pipelines.cli.main import main

    def run(*arguments: Any, command: tuple[str, ...] = ("lineage",)) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["reel", *command, *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        seen = capsys.readouterr()
        assert "Traceback" not in seen.err
        return int(stop.value.code or 0), seen.out + seen.err

    return run


@pytest.fixture
def filled(tmp_path: Path) -> Store:
    """Two sources, three clips and one; a snapshot of the first's."""
    store = Store.open(tmp_path / "store", create=True)
    add_source(store, "aa", 3)
    add_source(store, "bb", 1)
    store.snapshots.create("some", QUERY)
    return store


def run_of(store: Store, folder: Path, *, lora: bool = False) -> Path:
    """A run's folder with a checkpoint that was trained on the snapshot."""
    torch.manual_seed(0)
    model, snapshot = DiT(TINY).init_weights(0), store.snapshots.show("some")
    if lora:
        add_lora(model, LoRAConfig(rank=4, alpha=2))
    recipe = TrainRecipe(model=TINY, lora=LoRAConfig(rank=4, alpha=2) if lora else None)
    stated = {"name": "some", "content_hash": snapshot.content_hash, "num_clips": 3, "store": store.uri, "sql": QUERY}
    about = {
        "recipe": recipe.model_dump(mode="json"), "recipe_fingerprint": recipe.fingerprint, "snapshot": stated,
        "encoder_fingerprint": "e", "code_version": "c", "parent": {"path": "/gone/base", "sha256": "beef" * 16},
    }  # fmt: skip
    kept = Checkpoints(folder / "checkpoints", 3)
    kept.save(10, {f"model.{name}": tensor for name, tensor in model.state_dict().items()}, about)
    kept.wait()
    return folder


@pytest.mark.parametrize("format", ["webdataset", "musubi-tuner"])
@pytest.mark.parametrize("of", [{"snapshot": "some"}, {"sql": QUERY}], ids=["snapshot", "query"])
def test_an_export_leads_to_store_snapshot_and_files(
    filled: Store, tmp_path: Path, call: Call, format: str, of: dict[str, str]
) -> None:
    made = export(filled, tmp_path / "out", format, **of)
    assert made.content_hash == filled.snapshots.show("some").content_hash
    code, shown = call(tmp_path / "out", "--all")
    assert code == 0, shown
    for fact in (f"format: {format}", "clips: 3", made.content_hash, filled.uri, next(iter(of.values()))):
        assert fact in shown
    assert "source       /f/aa.mp4  md5 aa  3 clips" in shown
    assert "clip aa-002  frames 100-149" in shown
    assert "warning" not in shown
    assert ("the store still has it, with this hash" in shown) == ("snapshot" in of)
    found = json.loads(call(tmp_path / "out", "--json")[1])
    assert [len(source["clips"]) for source in found["sources"]] == [3]


def test_an_export_on_an_object_store_leads_back_too(filled: Store, call: Call) -> None:
    export(filled, "memory://exports/lineage", "webdataset", snapshot="some")
    code, shown = call("memory://exports/lineage")
    assert code == 0, shown
    assert shown.startswith("export       memory://exports/lineage\n    format: webdataset")
    assert "source       /f/aa.mp4  md5 aa  3 clips" in shown
    assert "is it an export?" in call("memory://exports/nothing")[1]


def test_a_file_of_an_export_leads_to_its_clip(filled: Store, tmp_path: Path, call: Call) -> None:
    export(filled, tmp_path / "out", "simpletuner", snapshot="some")
    for file in ("videos/aa-001.mp4", "videos/aa-001.txt"):
        code, shown = call(tmp_path / "out" / file, "--all")
        assert code == 0, shown
        assert "clip: aa-001" in shown
        assert "clip aa-001  frames 50-99" in shown
        assert "aa-002" not in shown
    assert "format: simpletuner" in call(tmp_path / "out" / "multidatabackend.json")[1]


def test_what_an_export_no_longer_leads_to_is_a_warning(filled: Store, tmp_path: Path, call: Call) -> None:
    export(filled, tmp_path / "out", "folder", sql=QUERY)
    export(filled, tmp_path / "pinned", "folder", snapshot="some")
    filled.delete("clips", "clip_id = 'aa-000'")
    assert "1 of its clips are no longer in" in call(tmp_path / "out")[1]
    assert "aa-000" in call(tmp_path / "pinned", "--all")[1], "a snapshot keeps it"
    other = Store.open(tmp_path / "other", create=True)
    assert "warning: the way to the sources is lost" in call(tmp_path / "pinned", "--store", other.uri)[1]
    marker = tmp_path / "out" / "reelwright-export.json"
    marker.write_text(json.dumps({"clips": "many", "store": "s3://somebody/else", "sql": "x"}))
    code, shown = call(tmp_path / "out")
    assert code == 0
    assert "add --store s3://somebody/else to go there" in shown, "a record is not to be trusted with an address"
    marker.write_text("[")
    assert "cannot be read" in call(tmp_path / "out")[1]


def test_exported_weights_and_loras_lead_to_what_they_were_trained_on(
    filled: Store, tmp_path: Path, call: Call
) -> None:
    run = run_of(filled, tmp_path / "runs" / "whole")
    made = export_weights(run, tmp_path / "weights", ema=False, dtype=None, max_shard_bytes=10**9)
    adapted = run_of(filled, tmp_path / "runs" / "adapted", lora=True)
    small = export_lora(adapted, tmp_path / "lora", ema=False, dtype=None, name="default")
    for place, kind, sha in (
        (tmp_path / "weights", "weights", made.sha256),
        (tmp_path / "lora", "lora", small.sha256),
        (tmp_path / "lora" / "lora.safetensors", "lora", small.sha256),
    ):
        code, shown = call(place)
        assert code == 0, shown
        assert shown.startswith(f"{kind:<12} {place}")
        assert f"sha256: {sha}" in shown
        assert f"snapshot: some, {filled.snapshots.show('some').content_hash[:19]}, 3 clips of {filled.uri}" in shown
        assert "parent       /gone/base (beefbeefbeefbeef)" in shown
        assert "source       /f/aa.mp4  md5 aa  3 clips" in shown
        assert "warning" not in shown


def test_imported_weights_say_where_they_came_from(filled: Store, tmp_path: Path, call: Call) -> None:
    torch.manual_seed(1)
    model = DiT(TINY)
    save_model(model, TINY, tmp_path / "published")
    code, shown = call(tmp_path / "published")
    assert code == 0
    assert "no about.json beside it says where it is from" in shown
    code, shown = call(tmp_path / "published", tmp_path / "weights", command=("checkpoint", "import"))
    assert code == 0, shown
    code, shown = call(tmp_path / "weights")
    assert code == 0
    assert f"source: {tmp_path / 'published'}" in shown
    assert "sha256: " in shown
    adapted = run_of(filled, tmp_path / "runs" / "adapted", lora=True)
    export_lora(adapted, tmp_path / "lora", ema=False, dtype=None, name="default")
    import_lora(tmp_path / "lora", tmp_path / "again")
    shown = call(tmp_path / "again")[1]
    assert "made of:\n  lora " in shown, "what it was imported from says more"
    assert "  source       /f/aa.mp4" in shown
    swapped = DiT(TINY)
    add_lora(swapped, LoRAConfig(rank=2, alpha=2))
    save_lora(swapped, tmp_path / "lora" / "lora.safetensors")
    assert "warning: about.json is of other weights" in call(tmp_path / "lora")[1]


def test_a_generated_video_leads_to_run_prompt_and_files(filled: Store, tmp_path: Path, call: Call) -> None:
    run = run_of(filled, tmp_path / "runs" / "whole")
    said = {
        "made_by": "reelwright", "prompts": ["a dog\x1b[2J"], "seed": 7, "run": "whole",
        "checkpoint": str(run / "checkpoints" / "step-00000010"), "step": 10,
        "snapshot": {"name": "some", "content_hash": filled.snapshots.show("some").content_hash, "num_clips": 3,
                     "store": filled.uri},
        "loras": [{"file": str(tmp_path / "gone.safetensors"), "weight": 1.0}],
    }  # fmt: skip
    video = write_video(tmp_path / "x.mp4", torch.zeros(3, 5, 32, 32), 8, said)
    image = write_image(tmp_path / "x.png", torch.zeros(3, 32, 32), said)
    for file in (video, image):
        code, shown = call(file)
        assert code == 0, shown
        for fact in ("a dog", "seed: 7", "run: whole", "source       /f/aa.mp4", "parent       /gone/base"):
            assert fact in shown
        assert f"warning: {tmp_path / 'gone.safetensors'} is no longer there" in shown
        assert "\x1b" not in shown


@pytest.mark.parametrize("name", ["refined_from", "begins_with"])
def test_a_clip_that_a_video_was_made_of_leads_to_its_source_while_it_is_that_clip(
    name: str, filled: Store, tmp_path: Path, call: Call
) -> None:
    export(filled, tmp_path / "out", "simpletuner", snapshot="some")
    clip, lora = tmp_path / "out" / "videos" / "aa-001.mp4", tmp_path / "lora" / "lora.safetensors"
    model = DiT(TINY).init_weights(0)
    add_lora(model, LoRAConfig(rank=4, alpha=2))
    lora.parent.mkdir()
    save_lora(model, lora)
    said = {
        "made_by": "reelwright", name: {"file": str(clip), "sha256": sha256(clip), "about": None},
        "loras": [{"file": str(lora), "file_sha256": sha256(lora)}],
    }  # fmt: skip
    video = write_video(tmp_path / "x.mp4", torch.zeros(3, 5, 32, 32), 8, said)
    code, shown = call(video, "--all")
    assert code == 0, shown
    assert "clip aa-001  frames 50-99" in shown
    assert "replaced" not in shown
    clip.write_bytes(b"another")
    add_lora(model, LoRAConfig(rank=2, alpha=2), name="another")
    save_lora(model, lora, name="another")
    shown = call(video, "--all")[1]
    assert "frames 50-99" not in shown
    for file in (clip, lora):
        assert f"warning: {file} has been replaced since" in shown


@pytest.mark.parametrize("said", [
    {"made_by": "somebody"}, ["a list"], 7, {"made_by": "reelwright", "snapshot": "text", "loras": 3, "weights": [1]},
    {"made_by": "reelwright", "snapshot": {"store": "s3://somebody/else", "name": ["x"]}, "checkpoint": {"a": 1}},
    {"made_by": "reelwright", "loras": [{"file": "x.mp4", "file_sha256": 3}], "begins_with": {"file": ["x.mp4"]}},
    {"made_by": "reelwright", "refined_from": {"file": "x.mp4", "sha256": None}, "begins_with": "x.mp4"},
])  # fmt: skip
def test_a_hostile_record_is_no_traceback(tmp_path: Path, call: Call, said: Any) -> None:
    file = write_video(tmp_path / "x.mp4", torch.zeros(3, 5, 32, 32), 8, said)
    code, shown = call(file)
    assert (code, shown.count("says nothing of where it comes from")) in {(1, 1), (0, 0)}


def test_a_clip_is_found_by_its_id(filled: Store, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REEL_STORE", raising=False)
    code, shown = call("aa-001")
    assert code == 1
    assert "aa-001 does not exist; if it is a clip's id, say of which store with --store" in shown
    for asked in (("aa-001", "--store", filled.uri), ("aa-001",)):
        code, shown = call(*asked)
        assert code == 0, shown
        assert "in snapshots: some" in shown
        assert "source       /f/aa.mp4  md5 aa  1 clips" in shown
        monkeypatch.setenv("REEL_STORE", filled.uri)
    assert "no clip's id begins with" in call("nobody", "--store", filled.uri)[1]


def test_what_says_nothing_is_told_so(tmp_path: Path, call: Call) -> None:
    made = footage.write(tmp_path / "film.mp4", footage.frames(5), fps=25)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    for path in (made, tmp_path / "notes.txt", tmp_path / "empty"):
        code, shown = call(path)
        assert code == 1
        assert f"error: {path} says nothing of where it comes from; give a run" in shown
    assert "error: " + str(tmp_path / "no.mp4") + " does not exist\n" in call(tmp_path / "no.mp4")[1]


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:400])


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def scrambled(file: Path) -> None:
    file.write_bytes(b"\xff" * 64)


COPY_VIDEO = "copy it again from where it was made, or make it again"
COPY_WEIGHTS = "copy or download it again, or write it anew with reel checkpoint export"


@pytest.mark.parametrize("damage", [cut_short, emptied, scrambled])
@pytest.mark.parametrize(("file", "asked", "to_do"), [
    ("lora/lora.safetensors", ("lora", "lora/lora.safetensors"), COPY_WEIGHTS),
    ("weights/diffusion_pytorch_model.safetensors", ("weights",), COPY_WEIGHTS),
    ("x.png", ("x.png",), COPY_VIDEO),
    ("x.mp4", ("x.mp4",), COPY_VIDEO),
    ("runs/adapted/checkpoints/step-00000010/checkpoint.json", ("runs/adapted",), "use another checkpoint"),
    ("out/reelwright-export.json", ("out",), "export again"),
])  # fmt: skip
def test_a_damaged_file_is_one_sentence_that_says_what_to_do(
    filled: Store, tmp_path: Path, call: Call, file: str, asked: tuple[str, ...], to_do: str,
    damage: Callable[[Path], None],
) -> None:  # fmt: skip
    folder = file.partition("/")[0]
    if folder in ("lora", "runs"):
        run = run_of(filled, tmp_path / "runs" / "adapted", lora=True)
        export_lora(run, tmp_path / "lora", ema=False, dtype=None, name="default")
    elif folder == "weights":
        export_weights(run_of(filled, tmp_path / "whole"), tmp_path / folder, ema=False, dtype=None,
                       max_shard_bytes=10**9)  # fmt: skip
    elif folder == "out":
        export(filled, tmp_path / folder, "simpletuner", snapshot="some")
    elif folder == "x.png":
        write_image(tmp_path / folder, torch.rand(3, 32, 32), {"made_by": "reelwright"})
    else:
        write_video(tmp_path / folder, torch.zeros(3, 5, 32, 32), 8, {"made_by": "reelwright"})
    damage(tmp_path / file)
    for one in asked:
        code, shown = call(tmp_path / one)
        assert code == 1, shown
        assert shown.startswith(f"error: {tmp_path / one}")
        assert shown.rstrip().endswith(to_do)
        assert shown.count("\n") == 1
        for words in ("deserializ", "codec", "Errno", "Invalid data", "char "):
            assert words not in shown


@pytest.mark.parametrize(("field", "value"), [
    ("step", None), ("recipe", {"steps": 3}), ("snapshot", {"name": "some"}), ("snapshot", [1]), ("parent", "x"),
    ("parent", {"sha256": "beef"}), ("adapters", {"student": 7}), ("code_version", 7), ("rewards", {"a": {}}),
    ("resumed_from", {"path": "x", "snapshot": {"name": "a", "content_hash": "b"}}),
])  # fmt: skip
def test_a_checkpoint_that_says_something_else_than_one_does_is_a_sentence(
    filled: Store, tmp_path: Path, call: Call, field: str, value: Any
) -> None:
    run = run_of(filled, tmp_path / "run")
    file = run / "checkpoints" / "step-00000010" / "checkpoint.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {field: value}))
    code, shown = call(run)
    assert code == 1
    assert shown.startswith(f"error: {file}: damaged: {field}")
    assert shown.endswith("; use another checkpoint\n")


def test_a_damaged_record_beside_weights_is_told_from_none(filled: Store, tmp_path: Path, call: Call) -> None:
    export_lora(run_of(filled, tmp_path / "run", lora=True), tmp_path / "lora", ema=False, dtype=None, name="default")
    note = tmp_path / "lora" / "about.json"
    whole = json.loads(note.read_text())
    note.write_text("{")
    code, shown = call(tmp_path / "lora")
    assert (code, f"warning: {note} is damaged" in shown) == (0, True)
    note.write_text(json.dumps(whole | {"parent": 7}))
    code, shown = call(tmp_path / "lora")
    assert (code, shown.startswith(f"error: {tmp_path / 'lora'}: about.json beside it is damaged: parent")) == (1, True)
