"""Another network at the same path is noticed: in the key of stored pairs, and by a run that is resumed."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from reelwright.training.adapter_starts import adapter_origins, of_other_networks
from reelwright.training.checkpoints import Checkpoints, read_metadata
from reelwright.training.data.encode import fingerprints_of
from reelwright.training.distributed.world import World
from reelwright.training.errors import TrainError
from reelwright.training.lineage import parent_of
from reelwright.training.origins import identity_of, kept_origins
from reelwright.training.recipe import TrainRecipe
from reelwright.training.registry import AdapterPart
from reelwright.training.run import build
from tests.training.distilling import LORA, save_base
from tests.training.made_up import MODEL, recipe_of

ALONE = World.alone("cpu")


def other_weights(file: Path) -> None:
    """Change a network as a training step would, with names, shapes and sizes as before."""
    save_file({name: tensor + 1e-4 for name, tensor in load_file(file).items()}, file)


def a_run(folder: Path, step: int, **facts: Any) -> Path:
    """A run's folder with a checkpoint of one tensor."""
    kept = Checkpoints(folder / "checkpoints", 1)
    snapshot = {"content_hash": facts.pop("content_hash", "s")}
    kept.save(step, {"model.x": torch.zeros(1)}, {"recipe_fingerprint": "r", "snapshot": snapshot, **facts})
    kept.wait()
    return folder


def test_an_identity_is_of_what_decides_the_weights(tmp_path: Path) -> None:
    runs = [
        a_run(tmp_path / "a", 1), a_run(tmp_path / "b", 2), a_run(tmp_path / "c", 1, recipe_fingerprint="q"),
        a_run(tmp_path / "d", 1, content_hash="t"), a_run(tmp_path / "e", 1, parent={"path": "x", "identity": "1"}),
        a_run(tmp_path / "f", 1, parent={"path": "x", "identity": "2"}),
    ]  # fmt: skip
    assert len({identity_of(run) for run in runs}) == len(runs)
    moved = (tmp_path / "a").rename(tmp_path / "moved")
    assert identity_of(moved) == identity_of(a_run(tmp_path / "again", 1))
    found = read_metadata(moved / "checkpoints" / "step-00000001")
    assert parent_of(moved, found)["identity"] == identity_of(moved)


def test_an_adapter_that_was_trained_on_another_network_is_told(tmp_path: Path) -> None:
    """By the record of a run, and by that beside a LoRA file; not where nothing is known."""
    network, other = a_run(tmp_path / "network", 1), a_run(tmp_path / "other", 2)
    parents = {one: parent_of(one, read_metadata(one / f"checkpoints/step-0000000{n}"))
               for n, one in ((1, network), (2, other))}  # fmt: skip
    quick = a_run(tmp_path / "quick", 3, parent=parents[network])
    (tmp_path / "lora").mkdir()
    save_file({"x": torch.zeros(1)}, tmp_path / "lora" / "lora.safetensors")
    unknown = [AdapterPart("style", str(tmp_path / "lora" / "lora.safetensors"))]
    assert of_other_networks(adapter_origins(unknown, Path), parents[other]) == []
    (tmp_path / "lora" / "about.json").write_text(json.dumps({"kind": "lora", "parent": parents[network]}))
    adapters = adapter_origins([AdapterPart("default", str(quick)), *unknown], Path)
    assert of_other_networks(adapters, parents[network]) == of_other_networks(adapters, None) == []
    said = of_other_networks(adapters, parents[other])
    assert [line.split(" (")[0] for line in said] == ["the adapter default", "the adapter style"]
    assert all(f"was trained on {network}" in line for line in said)


def test_pairs_of_another_base_have_another_key(tmp_path: Path) -> None:
    """At the same path; weights that are copied elsewhere make the same pairs."""

    def key(file: Path) -> str:
        base = {"path": str(file)}
        return fingerprints_of(TrainRecipe(data={"sizes": ["720p"], "frames": [93], "pair": {"base": base}})).latents

    file = save_base(tmp_path / "base.safetensors")
    first = key(file)
    assert key(file) == first
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(file.read_bytes())
    assert key(copy) == first
    other_weights(file)
    assert key(file) != first
    assert key(a_run(tmp_path / "run", 1)) != key(a_run(tmp_path / "run", 2))
    with pytest.raises(TrainError, match=r"data\.pair\.base\.path: there is no .*nowhere"):
        key(tmp_path / "nowhere")


def test_a_resumed_run_refuses_another_base_and_another_teacher(tmp_path: Path) -> None:
    base, teacher = save_base(tmp_path / "base.safetensors"), tmp_path / "lora.safetensors"
    recipe = recipe_of(init=str(base), lora=LORA, model=MODEL)
    checkpoint = tmp_path / "run" / "checkpoints" / "step-00000002"

    def origins() -> dict[str, Any]:
        save_file({"x": torch.ones(4, 2)}, teacher)
        teaching = {"path": str(teacher), "identity": identity_of(teacher)}
        return {"parent": build(recipe, ALONE)[1], "adapters": {"teacher": teaching, "default": {"identity": "a"}}}

    began = json.loads(json.dumps(origins()))
    kept = {"frozen": ["teacher"], "checkpoint": checkpoint}
    assert kept_origins(began, origins(), **kept) == began
    student = {**began, "adapters": {**began["adapters"], "default": {"path": "y", "identity": "b"}}}
    assert kept_origins(began, student, **kept) == began, "the student's weights are the checkpoint's"
    taught = {**began, "adapters": {**began["adapters"], "teacher": {"path": "y", "identity": "b"}}}
    with pytest.raises(TrainError, match="was begun with another adapter teacher than there is at y now; put that"):
        kept_origins(began, taught, **kept)
    other_weights(base)
    with pytest.raises(TrainError, match=r"begun with another network than there is at .*base\.safetensors now"):
        kept_origins(began, origins(), **kept)
    whole = {"parent": origins()["parent"]}
    assert kept_origins({"parent": began["parent"]}, whole, **kept)["parent"] == began["parent"], "all is trained"
    unknown = {"parent": {"path": "x"}, "adapters": {}}
    assert kept_origins(unknown, origins(), **kept) == unknown, "a checkpoint of an earlier version says none"
