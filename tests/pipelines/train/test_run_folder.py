"""A run's folder: one process at a time, none left by a run that never began, and what a person is told at its end."""

from pathlib import Path

import pytest

from reelwright.errors import UserError
from reelwright.pipelines.train.run import Job, RunFolderBusy, claim, ending
from reelwright.training.recipe import TrainRecipe


def trained(folder: Path, leaves: str) -> None:
    """A run that leaves a file and fails."""
    with claim(folder):
        (folder / leaves).touch()
        raise UserError("nothing is precomputed")


def test_a_run_that_fails_before_its_first_line_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        trained(tmp_path / "run", "recipe.yaml")
    assert not list(tmp_path.iterdir())
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").touch()
    with pytest.raises(UserError):
        trained(tmp_path / "run", "recipe.yaml")
    assert (tmp_path / "run" / "notes.txt").is_file(), "a folder that was there stays"
    with pytest.raises(UserError):
        trained(tmp_path / "begun", "log.jsonl")
    assert (tmp_path / "begun" / "log.jsonl").is_file(), "a run that began is kept"


def test_a_folder_that_is_taken_stays(tmp_path: Path) -> None:
    with claim(tmp_path / "run"):
        with pytest.raises(RunFolderBusy):
            trained(tmp_path / "run", "recipe.yaml")
        assert (tmp_path / "run" / "run.lock").is_file()


def test_an_expert_s_run_ends_with_the_command_that_refines(tmp_path: Path) -> None:
    data = {"sizes": ["720p"], "frames": [93], "pair": {}}
    recipe = TrainRecipe(objective={"kind": "refinement"}, data=data)
    said = ending(Job(recipe, "fine", "all", "STORE", "runs"), tmp_path / "a run", 7, True)
    assert f"reel refine VIDEO.mp4 '{tmp_path}/a run' --to 720p --out x.mp4" in said
    assert "reel generate" not in said
    plain = ending(Job(TrainRecipe(), "base", "all", "STORE", "runs"), tmp_path, 7, True)
    assert f"reel generate {tmp_path} --prompt" in plain
