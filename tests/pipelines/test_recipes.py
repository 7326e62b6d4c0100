"""The recipes that come with the code: each loads, and a pre-training stage begins with the one before it."""

from pathlib import Path

import pytest

from pipelines.recipe import load_recipe
from pipelines.recipes import load
from tests.conftest import ROOT
from training.buckets import buckets_of
from training.recipe import TrainRecipe

CURATE = sorted((ROOT / "configs" / "curate").glob("*.yaml"))
TRAIN = sorted((ROOT / "configs" / "train").rglob("*.yaml"))


@pytest.mark.parametrize("path", CURATE, ids=lambda p: p.stem)
def test_a_curation_recipe_loads(path: Path) -> None:
    assert load_recipe(path).inputs


@pytest.mark.parametrize("path", TRAIN, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_a_training_recipe_loads_and_begins_with_a_stage_that_is_there(path: Path) -> None:
    recipe = load(TrainRecipe, path)
    assert buckets_of(recipe.data)
    if recipe.init.startswith("runs/"):
        before = ROOT / "configs" / "train" / Path(recipe.init).relative_to("runs").with_suffix(".yaml")
        assert before in TRAIN
        assert load(TrainRecipe, before).model == recipe.model


def test_all_recipes_are_found() -> None:
    assert len(CURATE) >= 3
    assert len(TRAIN) >= 14
