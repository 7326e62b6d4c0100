"""The recipes that come with the code: each loads, and a pre-training stage begins with the one before it."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from reelwright.pipelines.recipes.curation import CurateRecipe, load_recipe
from reelwright.recipe_files import RecipeError, load, spelt_out
from reelwright.training.batch import TASKS
from reelwright.training.data.buckets import buckets_of
from reelwright.training.recipe import TrainRecipe
from tests.conftest import ROOT

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


def test_every_training_setting_is_listed_with_what_it_is() -> None:
    text = spelt_out(TrainRecipe())
    assert load_text(TrainRecipe, text) == TrainRecipe()
    bare = [line for line in text.splitlines() if " # " not in line]
    assert not bare


@pytest.mark.parametrize("path", [*CURATE, *TRAIN], ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_a_recipe_spelt_out_is_the_same_recipe(path: Path) -> None:
    recipe = load(TrainRecipe, path) if path in TRAIN else load_recipe(path)
    assert load_text(type(recipe), spelt_out(recipe)) == recipe


def load_text(kind: type, text: str) -> BaseModel:
    return kind.model_validate(yaml.safe_load(text))


@pytest.mark.parametrize("profile", ["cpu", "full"])
def test_annotators_with_a_plus_are_added_to_the_profile_s(profile: str) -> None:
    own = CurateRecipe(profile=profile).annotator_params()
    added = CurateRecipe(profile=profile, annotators=("+edges", {"+text": {"min_probability": 0.8}}))
    assert added.annotator_params() == [
        (name, {"min_probability": 0.8} if name == "text" else params) for name, params in own
    ] + [("edges", {})]
    assert CurateRecipe(profile=profile, annotators=("edges",)).annotator_params() == [("edges", {})]


def test_annotators_are_added_or_replace_the_profile_s_not_both() -> None:
    with pytest.raises(RecipeError, match=r"annotators: \+edges is added to the profile's, and blur replaces them"):
        CurateRecipe(annotators=("blur", "+edges")).annotator_params()


@pytest.mark.parametrize(
    ("tasks", "weights"),
    [
        ({"t2v": 1}, (0, 1, 0, 0)),
        ({"i2v": 2, "t2i": 1}, (1, 0, 2, 0)),
        ({"condition_frames": [5]}, (1, 1, 0, 0)),
        (None, (1, 1, 0, 0)),
    ],
)
def test_tasks_that_a_recipe_does_not_name_are_off(tasks: dict[str, Any] | None, weights: tuple[int, ...]) -> None:
    recipe = TrainRecipe.model_validate({"tasks": tasks} if tasks else {})
    assert tuple(getattr(recipe.tasks, task) for task in TASKS) == weights
    assert TrainRecipe.model_validate(recipe.model_dump(mode="json")) == recipe


def test_a_recipe_of_no_task_is_refused(tmp_path: Path) -> None:
    (tmp_path / "none.yaml").write_text("tasks: {t2i: 0}\n")
    with pytest.raises(RecipeError, match="at least one task needs a weight"):
        load(TrainRecipe, tmp_path / "none.yaml")


@pytest.mark.parametrize("listed", [(), ("+combing",), ("blur",)])
def test_an_annotator_of_no_profile_runs_where_it_is_named(listed: tuple[str, ...]) -> None:
    recipe = CurateRecipe(annotators=listed)
    before = recipe.annotator_params()
    assert "caption_map" not in dict(before)
    assert recipe.naming(["caption_map", "caption_map"]).annotator_params() == [*before, ("caption_map", {})]


def test_a_name_adds_nothing_that_a_profile_has_or_nobody_knows() -> None:
    recipe = CurateRecipe(annotators=("blur",))
    assert recipe.naming(["blur", "motion", "nobody"]) == recipe
