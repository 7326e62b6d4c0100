"""The whole loop on two ranks: shards or strips, averages, validation, checkpoints; gone on with by one process."""

from pathlib import Path

import pytest

from model.dit import DiT
from tests.training.made_up import ABOUT, MadeUp, recipe_of, run
from tests.training.ranks import ranks
from training.checkpoints import about, find_checkpoint
from training.logs import read_log
from training.loop import train
from training.parallel import parallelize
from training.world import start

LAYOUTS = {"fsdp": {}, "zero2": {"reshard_after_forward": False}, "ring": {"context": 2, "context_form": "ring"}}


def test_four_steps_of_two_and_two_alone_are_six_alone(tmp_path: Path) -> None:
    whole = run(recipe_of(), tmp_path / "whole")
    ranks(2, _four_steps, str(tmp_path))
    for name in LAYOUTS:
        folder = tmp_path / name
        assert about(find_checkpoint(folder))["world"]["ranks"] == 2
        rest = run(recipe_of(), folder)
        assert rest.finished
        assert rest.metrics == pytest.approx(whole.metrics, rel=1e-5)
        expect, found = ([row["loss"] for row in read_log(at) if "loss" in row] for at in (tmp_path / "whole", folder))
        assert len(found) == 6
        assert found == pytest.approx(expect, rel=1e-5)


def _four_steps(folder: str) -> None:
    for name, parallel in LAYOUTS.items():
        recipe = recipe_of(parallel=parallel, steps=4)
        world = start(recipe.parallel, device="cpu")
        model = parallelize(DiT(recipe.model).init_weights(recipe.seed), recipe.parallel, recipe.compute, world)
        data, place = MadeUp(recipe, world), Path(folder) / name
        train(recipe, data, world, place, model=model, about=ABOUT, say=lambda line: None)
