"""Objectives are found by their kind, also those of other packages; the loop trains by any of them."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from reelwright.recipe_files import RecipeError, load
from reelwright.training import registry
from reelwright.training.checkpoints import Checkpoints, read_tensors
from reelwright.training.logs import read_log
from reelwright.training.recipe import TrainRecipe
from tests.training.made_up import recipe_of, run

OUTSIDE = '''
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from pydantic import Field

from reelwright.training.objectives.base import Loss
from reelwright.training.objectives.flow import FlowConfig, flow_loss
from reelwright.training.registry import ObjectiveConfig, register


@register
class NearAverageConfig(ObjectiveConfig):
    """Flow matching that stays near an average of its own weights."""

    kind: Literal["near_average"] = "near_average"
    pull: float = Field(0.1, ge=0)

    def build(self, model, recipe, world):
        average = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
        return NearAverage(self, model, average)


@dataclass
class NearAverage:
    config: NearAverageConfig
    model: Any
    average: dict
    passes: int = 0

    def loss(self, batch, *, t=None):
        flow = flow_loss(self.model, batch, FlowConfig(), t=t)
        parameters = dict(self.model.named_parameters())
        far = sum((parameters[n] - a).square().sum() for n, a in self.average.items())
        return Loss(flow.total + self.config.pull * far, flow.per_sample, flow.t)

    @torch.no_grad()
    def after_step(self, step):
        for name, parameter in self.model.named_parameters():
            self.average[name].lerp_(parameter, 0.5)

    def tensors(self):
        return {f"average.{n}": a for n, a in self.average.items()}

    def metrics(self):
        return {"far": 1.5, "far/squared": 2.25}

    def flops(self, batch, attention):
        return batch.latents.numel()
'''


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package with an objective, as pip would leave it: a module, and an entry point that names it."""
    (tmp_path / "near_average.py").write_text(OUTSIDE)
    facts = tmp_path / "near_average-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: near-average\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(f"[{registry.GROUP}]\nnear_average = near_average\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry._discover.cache_clear()
    yield tmp_path
    registry._CONFIGS.pop("near_average", None)
    sys.modules.pop("near_average", None)
    registry._discover.cache_clear()


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    return read_tensors(Checkpoints(folder / "checkpoints", 1).latest())


def test_an_objective_of_another_package_trains_and_resumes_to_the_bit(outside: Path) -> None:
    recipe = recipe_of(objective={"kind": "near_average", "pull": 0.2}, steps=4)
    assert type(recipe.objective).__name__ == "NearAverageConfig"
    run(recipe, outside / "whole")
    run(recipe.model_copy(update={"steps": 2}), outside / "parts")
    run(recipe, outside / "parts")
    whole, parts = _tensors(outside / "whole"), _tensors(outside / "parts")
    assert {name.split(".")[0] for name in whole} == {"model", "ema", "optim", "objective"}
    assert all(torch.equal(parts[name], tensor) for name, tensor in whole.items())
    name = "final_layer.linear.weight"
    assert not torch.equal(whole[f"objective.average.{name}"], whole[f"model.{name}"])
    run(recipe_of(steps=4), outside / "flow")
    losses = [[row["loss"] for row in read_log(outside / f) if "loss" in row] for f in ("whole", "flow")]
    assert losses[0][0] == losses[1][0]  # at the first step the average is where the weights are
    assert losses[0][1:] != losses[1][1:]


def test_a_run_of_flow_is_the_start_of_another_objective(outside: Path) -> None:
    first = run(recipe_of(steps=2), outside / "flow").checkpoint
    run(recipe_of(objective={"kind": "near_average"}, steps=3), outside / "next", resume_from=first)
    assert any(name.startswith("objective.average.") for name in _tensors(outside / "next"))


def test_its_kind_is_in_the_fingerprint_and_survives_writing(outside: Path) -> None:
    recipe = recipe_of(objective={"kind": "near_average"})
    assert recipe.fingerprint != recipe_of().fingerprint
    again = TrainRecipe.model_validate(recipe.model_dump(mode="json"))
    assert again == recipe
    assert again.fingerprint == recipe.fingerprint


def test_an_unknown_kind_or_setting_is_a_sentence(tmp_path: Path, outside: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("objective: {kind: flwo}\n")
    known = r"'flwo' is not an objective; choose one of (.*, )?flow, (.*, )?near_average(, .*)?, got"
    with pytest.raises(RecipeError, match=known):
        load(TrainRecipe, file)
    file.write_text("objective: {kind: near_average, shift_at_reference: 3}\n")
    with pytest.raises(RecipeError, match="'objective.shift_at_reference' is not a setting"):
        load(TrainRecipe, file)
    with pytest.raises(ValidationError, match="kind 3 is not the name of an objective"):
        TrainRecipe.model_validate({"objective": {"kind": 3}})


def test_two_objectives_of_one_kind_are_refused(outside: Path) -> None:
    first = registry.config_of("near_average")
    assert registry.register(first) is first
    with pytest.raises(ValueError, match="objective 'near_average' is near_average.NearAverageConfig already"):
        registry.register(type("Other", (first,), {"__module__": "other"}))


def test_reading_a_recipe_loads_no_torch() -> None:
    code = "import sys, reelwright.training.recipe as r; r.TrainRecipe(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
