"""What makes two recipes the same run."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args

import pytest
import yaml
from pydantic import TypeAdapter
from pydantic_core import PydanticUndefined, to_jsonable_python

from reelwright.model.config import LoRAConfig, Part
from reelwright.recipe_files import RecipeError, parse_overrides
from reelwright.training.pair_config import PairConfig
from reelwright.training.recipe import TrainRecipe
from reelwright.training.recipe_file import load_recipe
from reelwright.training.registry import ObjectiveConfig, config_of

BASE: dict[str, Any] = {"optim": {"lr": 2e-5}, "data": {"sizes": ["480p"]}}


def recipe(**sections: Any) -> TrainRecipe:
    return TrainRecipe.model_validate({name: BASE.get(name, {}) | sections.get(name, {}) for name in BASE} | {
        name: section for name, section in sections.items() if name not in BASE
    })  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 7}, {"guard": {"max_norm": 5.0}}, {"compute": {"checkpointing": "full", "compile": True}},
        {"data": {"workers": 0, "prefetch": 9}}, {"parallel": {"context": 2}}, {"checkpoints": {"every": 1}},
        {"optim": {"eps": 1e-8}}, {"data": {"fps": 15}}, {"data": {"encode": "precomputed"}},
        {"data": {"encode": {"latents": "cached", "text": "on_the_fly", "cache_dir": "x"}}},
    ],
    ids=str,
)  # fmt: skip
def test_what_can_change_while_a_run_goes_on_or_is_said_though_it_is_the_default(change: dict[str, Any]) -> None:
    assert recipe(**change).fingerprint == recipe().fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"optim": {"lr": 1e-5}}, {"data": {"batches_per_step": 4}}, {"compute": {"precision": "fp32"}}, {"lora": {}},
        {"init": "x"}, {"seed": 1}, {"tasks": {"i2v": 1}}, {"attention": {"form": "sparse"}}, {"data": {"windows": 3}},
        {"data": {"encode": {"latents": "on_the_fly"}}},
    ],
    ids=str,
)  # fmt: skip
def test_what_decides_the_weights_is_another_run(change: dict[str, Any]) -> None:
    assert recipe(**change).fingerprint != recipe().fingerprint


@pytest.mark.parametrize(
    ("sections", "expect"),
    [
        ({}, "44136fa355b3678a"),
        ({"data": {"encode": "on_the_fly", "fps": 12}}, "f62595a3eb74b0ca"),
        ({"objective": {"shift_at_reference": 5.0, "weighting": "uniform"}, "lora": {}}, "e0fc7924a2e6d5b7"),
        ({"objective": {"kind": "flow", "shift_at_reference": 5.0, "weighting": "uniform"}, "lora": {}},
         "e0fc7924a2e6d5b7"),
    ],
    ids=["defaults", "when latents and text were one decision", "before objectives had kinds", "with its kind"],
)  # fmt: skip
def test_runs_begun_before_keep_their_fingerprint(sections: dict[str, Any], expect: str) -> None:
    assert TrainRecipe.model_validate(sections).fingerprint == expect


def settings(part: type[Part], known: dict[str, Any]) -> dict[str, Any]:
    """Defaults of the settings that are known, as JSON has them."""
    return {name: shared(to_jsonable_python(part.model_fields[name].default), known[name]) for name in known}


def shared(value: Any, known: Any) -> Any:
    if not isinstance(value, dict) or not known:
        return value
    return {name: shared(value[name], known[name]) for name in known}


def test_a_default_that_runs_rely_on_stays() -> None:
    """A fingerprint leaves defaults out, so nothing else would tell that a run goes on with another one."""
    known = yaml.safe_load((Path(__file__).parent / "defaults.yaml").read_text("utf-8"))
    for part, name in ((TrainRecipe, "recipe"), (LoRAConfig, "lora"), (PairConfig, "pair")):
        assert settings(part, known[name]) == known[name]
    for kind, stated in known["objectives"].items():
        assert settings(config_of(kind), stated) == stated, kind


def every_part(part: type[Part]) -> Iterator[type[Part]]:
    yield part
    for field in part.model_fields.values():
        for inner in (field.annotation, *get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, Part) and inner is not ObjectiveConfig:
                yield from every_part(inner)


KINDS = ("flow", "refinement", "cfg_distillation", "consistency", "dmd", "grpo", "nft")


@pytest.mark.parametrize("part", {p: 0 for one in (TrainRecipe, *map(config_of, KINDS)) for p in every_part(one)})
def test_defaults_and_numbers_that_a_description_explains_are_allowed(part: type[Part]) -> None:
    """As in "0: never"."""
    for field in part.model_fields.values():
        allowed: Any = TypeAdapter(Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation)
        explained = [float(found) for found in re.findall(r"\b(\d+): ", field.description or "")]
        for value in [field.default, *explained]:
            if value is not None and value is not PydanticUndefined:
                assert allowed.validate_python(value) == value, field.description


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"size_weights": [1.0]}, "size_weights must be one number above 0 for each of the sizes"),
        ({"size_weights": [1.0, 0.0]}, "size_weights must be one number above 0"),
        ({"frame_rates": [15.0]}, "frame_rates must be one number above 0 for each of the frames"),
        ({"frame_rates": [15.0, 0.0]}, "frame_rates must be one number above 0"),
        ({"frames": [1, 32]}, "frames must be 4k"),
        ({"frames": [-3, 33]}, "frames must be 4k"),
    ],
)
def test_sizes_frames_and_their_weights_belong_together(section: dict[str, Any], says: str) -> None:
    fits = {"sizes": ["256p", "480p"], "frames": [1, 33], "size_weights": [1.0, 2.0], "frame_rates": [15.0, 30.0]}
    data = TrainRecipe.model_validate({"data": fits}).data
    assert (data.rate_of(1), data.rate_of(33), data.rate_of(93)) == (15.0, 30.0, data.fps)
    with pytest.raises(ValueError, match=says):
        TrainRecipe.model_validate({"data": fits | section})


@pytest.mark.parametrize("frames", [[12], [-3]])
def test_clean_frames_are_as_the_vae_packs_them(frames: list[int]) -> None:
    with pytest.raises(ValueError, match="condition_frames must be 4k"):
        TrainRecipe.model_validate({"tasks": {"continuation": 1, "condition_frames": frames}})


def test_videos_are_sampled_by_the_shift_that_is_trained_unless_the_recipe_says_another() -> None:
    trained = recipe(objective={"shift_at_reference": 6.0})
    assert trained.sampling.timestep_shift(37440) == 6
    assert recipe().sampling.timestep_shift(37440) == 12
    other = recipe(objective={"shift_at_reference": 6.0}, sampling={"shift_at_reference": 3.0})
    assert other.sampling.timestep_shift(37440) == 3
    assert other.objective.timestep_shift(37440) == 6
    assert other.fingerprint == trained.fingerprint  # sampling decides no weight
    built = TrainRecipe(objective=trained.objective)
    assert built.sampling.shift_at_reference == 6


def test_a_setting_that_is_null_is_explained():
    with pytest.raises(RecipeError, match=r"'init' is null \(empty\), but it has no such value; leave it out"):
        load_recipe(None, parse_overrides(["init=null"]))
    assert load_recipe(None, parse_overrides(["lora=null"])).lora is None


def test_a_setting_without_a_value_is_the_empty_text(tmp_path):
    (tmp_path / "recipe.yaml").write_text("init: runs/stage1\nlog: {wandb: films}\n")
    recipe = load_recipe(tmp_path / "recipe.yaml", parse_overrides(["init=", "log.wandb="]))
    assert (recipe.init, recipe.log.wandb) == ("", "")
