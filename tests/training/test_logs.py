"""A run's log; Weights & Biases as far as it can be tried without an account: its id, and the sentence without it."""

import sys
from pathlib import Path

import pytest

from reelwright.training.distributed.world import World
from reelwright.training.errors import TrainError
from reelwright.training.logs import Log, read_log, wandb_id
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


def test_the_first_rank_alone_writes_and_says_lines_and_a_run_that_goes_on_drops_later_ones(tmp_path: Path) -> None:
    config, said = LogConfig(tensorboard=False), list[str]()
    Log(tmp_path / "none", config, World(rank=1, size=2), say=said.append).write(1, {"loss": 2.0}, line="a line")
    assert not said
    assert not (tmp_path / "none").exists()
    log = Log(tmp_path, config, World.alone("cpu"), say=said.append)
    for step in (1, 2, 3):
        log.write(step, {"loss": 1 / step}, line="" if step == 2 else f"line {step}")
    log.close()
    assert said == ["line 1", "line 3"]
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')  # a crash
    Log(tmp_path, config, World.alone("cpu"), start_step=2)
    assert [(row["step"], row["loss"]) for row in read_log(tmp_path)] == [(1, 1.0), (2, 0.5)]


def test_tensorboard_shows_a_step_that_is_taken_again_once(tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for start_step, steps in ((0, (1, 2, 3)), (2, (3, 4))):
        log = Log(tmp_path, LogConfig(), World.alone("cpu"), start_step=start_step)
        for step in steps:
            log.write(step, {"loss": step + start_step})
        log.close()
    shown = events.EventAccumulator(str(tmp_path / "tensorboard"))
    shown.Reload()
    assert [(one.step, one.value) for one in shown.Scalars("loss")] == [(1, 1), (2, 2), (3, 5), (4, 6)]
