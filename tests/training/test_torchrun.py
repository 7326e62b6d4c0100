"""The whole loop, under torchrun: sharded, with averages, validation and checkpoints."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.training.made_up import recipe_of, run
from tests.training.ranks import ranks
from tests.training.under_torchrun import be_a_rank
from training.checkpoints import about, find_checkpoint
from training.logs import read_log


def test_four_steps_under_torchrun_and_two_alone_are_six_alone(tmp_path: Path, whole: Path) -> None:
    done = torchrun(2, "tests.training.under_torchrun", tmp_path, 4, "{}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("step 4/4") == 1  # one rank speaks
    assert about(find_checkpoint(tmp_path))["world"]["ranks"] == 2
    check_rest(tmp_path, whole)


def test_four_steps_round_the_ring_and_two_alone_are_six_alone(tmp_path: Path, whole: Path) -> None:
    ranks(2, be_a_rank, str(tmp_path), 4, '{"context": 2, "context_form": "ring"}')
    check_rest(tmp_path, whole)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six steps in one process."""
    folder = tmp_path_factory.mktemp("whole")
    run(recipe_of(), folder)
    return folder


def check_rest(folder: Path, whole: Path) -> None:
    """Go on alone to the sixth step: losses, of averages too, are those of one process."""
    rest = run(recipe_of(), folder)
    assert rest.finished
    assert rest.metrics == pytest.approx(about(find_checkpoint(whole))["metrics"], rel=1e-5)
    expect, found = ([row["loss"] for row in read_log(place) if "loss" in row] for place in (whole, folder))
    assert len(found) == 6
    assert found == pytest.approx(expect, rel=1e-5)


def torchrun(ranks: int, module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """--standalone: at a port that is free."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    return subprocess.run(
        [*launcher, "-m", module, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
