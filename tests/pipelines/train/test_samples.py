"""Videos made while training: prompts are dealt to ranks, and a video is the one that a process alone makes."""

from pathlib import Path

import cv2
import numpy as np

from reelwright.pipelines.train.samples import SampleWriter
from reelwright.training.distributed.parallel import parallelize
from reelwright.training.distributed.world import World, start
from reelwright.training.recipe import TrainRecipe
from tests.training.made_up import MODEL
from tests.training.ranks import ranks
from tests.training.steps import tiny

RECIPE = TrainRecipe.model_validate({
    "model": MODEL | {"in_channels": 16, "out_channels": 16},
    "text": {"dim": 8, "tokens": 4}, "compute": {"precision": "fp32"},
    "samples": {"every": 1, "prompts": ["a", "b", "c"], "size": [32, 32], "frames": 1, "steps": 2},
})  # fmt: skip


def test_prompts_are_dealt_to_ranks(tmp_path: Path) -> None:
    said = _sample(str(tmp_path / "alone"), World.alone("cpu"))
    assert said == [f"step 7: samples in {tmp_path / 'alone' / 'samples' / 'step-00000007'}"]
    assert [len(lines) for lines in ranks(2, _on_ranks, str(tmp_path / "shared"))] == [1, 0]
    pictures = [_pictures(tmp_path / place) for place in ("alone", "shared")]
    assert [list(found) for found in pictures] == [["0.png", "1.png", "2.png"]] * 2
    for name, alone in pictures[0].items():
        assert np.abs(alone.astype(int) - pictures[1][name]).max() <= 1
        assert alone.std() > 1


def _on_ranks(folder: str) -> list[str]:
    return _sample(folder, start(RECIPE.parallel, device="cpu"))


def _sample(folder: str, world: World) -> list[str]:
    said: list[str] = []
    model = parallelize(tiny(config=RECIPE.model), RECIPE.parallel, RECIPE.compute, world)
    SampleWriter(RECIPE, Path(folder), world, said.append)(model, 7)
    return said


def _pictures(folder: Path) -> dict[str, np.ndarray]:
    return {file.name: cv2.imread(str(file)) for file in sorted((folder / "samples" / "step-00000007").iterdir())}
