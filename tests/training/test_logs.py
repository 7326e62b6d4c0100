"""Weights & Biases as far as it can be tried without an account: the run's id, and the sentence where it is missing."""

import sys
from pathlib import Path

import pytest

from reelwright.training.distributed.world import World
from reelwright.training.errors import TrainError
from reelwright.training.logs import Log, wandb_id
from reelwright.training.recipe import LogConfig


def test_a_run_that_goes_on_has_the_same_id_and_another_place_another(tmp_path: Path) -> None:
    name = "my recipe: 100%/again?"
    assert wandb_id(Path("runs") / name) == wandb_id(Path("runs").absolute() / name)
    assert wandb_id(tmp_path / "a" / "run") != wandb_id(tmp_path / "b" / "run")
    for folder in (tmp_path / name, tmp_path / ("x" * 200)):
        assert not set(wandb_id(folder)) & set("/\\#?%: ")
        assert len(wandb_id(folder)) < 128


def test_without_the_package_it_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # as if it were not installed, also where it is
    config = LogConfig(wandb="project", tensorboard=False)
    with pytest.raises(TrainError, match=r"pip install -e .*\[wandb\]'?, or --set log.wandb="):
        Log(tmp_path, config, World.alone("cpu"))
