"""The commands of docs/evaluation.md on the demonstration's folder, one after another as they are printed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from reelwright.curation.store import Store
from reelwright.training.checkpoints import Checkpoints
from reelwright.training.recipe import TrainRecipe
from tests.conftest import ROOT
from tests.documents import blocks
from tests.pipelines.generate.test_generate import MODEL, SAMPLES, network

PAGE = ROOT / "docs" / "evaluation.md"
SECTION = "## Try it on the demonstration"


def as_the_demonstration_leaves_it(folder: Path) -> Path:
    """Two checkpoints of a run, prompts and a store, where `make demo` puts them."""
    recipe = TrainRecipe(model=MODEL, samples=SAMPLES, data={"fps": 12})
    kept = Checkpoints(folder / "runs" / "demo-demo-12ab" / "checkpoints", 2)
    for step in (500, 600):
        weights = {f"model.{name}": weight for name, weight in network(step).state_dict().items()}
        kept.save(step, weights, {"recipe": recipe.model_dump(mode="json"), "recipe_fingerprint": str(step)})
    kept.wait()
    prompts = [{"prompt": f"a boat, {n}", "category": "seen"} for n in range(2)]
    (folder / "prompts.yaml").write_text(yaml.safe_dump({"name": "demo", "prompts": prompts}))
    Store.open(folder / "store", create=True)
    return folder


def printed() -> list[str]:
    """The shell blocks of the section."""
    lines = PAGE.read_text("utf-8").splitlines()
    start = lines.index(SECTION)
    end = next(number for number in range(start + 1, len(lines)) if lines[number].startswith("## "))
    return [block.text for block in blocks("sh", document=PAGE) if start < block.line <= end]


@pytest.mark.exhaustive
@pytest.mark.waits
def test_the_page_s_commands_make_a_study_of_two_checkpoints(tmp_path: Path) -> None:
    demo = as_the_demonstration_leaves_it(tmp_path / "demo")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", "\n".join(printed())], cwd=tmp_path, env=environment, capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    assert "4 videos = 0 there before + 0 failed before + 4 made" in done.stdout
    assert sorted(path.name for path in tmp_path.glob("*.html")) == [
        "pairs.html", "scores.html", "toy.html", "trace.html",
    ]  # fmt: skip
    store = Store.open(demo / "store")
    assert store.read("evaluations", ["name", "models"]).to_pylist() == [{"name": "toy", "models": ["early", "late"]}]
    assert sorted(store.read("studies", ["kind", "items"]).to_pylist(), key=lambda row: row["kind"]) == [
        {"kind": "gsb", "items": 2}, {"kind": "mos", "items": 4},
    ]  # fmt: skip
