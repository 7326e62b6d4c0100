"""Sharded over ranks, a step is the step of one process."""

import os
from pathlib import Path

import pytest
import torch

from reelwright.training import checkpoints as saved
from reelwright.training.distributed import world
from reelwright.training.distributed.world import World
from reelwright.training.recipe import ParallelConfig
from reelwright.training.tuning.recipe import load_tune_recipe
from reelwright.training.tuning.run import TuneJob, read_result, run_tuning
from tests.annotate.chat import checkpoints
from tests.training.ranks import ranks
from tests.training.tuning.miniature import SETTINGS, conversations


def job(folder: Path, name: str) -> TuneJob:
    more = {"base.model": str(folder / "base"), "data.jsonl": [str(folder / "data" / "train.jsonl")], "steps": 2,
            "samples_per_step": 3, "compute.per_forward": 1, "measured": 2, "max_new_tokens": 4,
            "data.max_tokens": 400, "merge": False}  # fmt: skip
    return TuneJob("captioner", load_tune_recipe("captioner", None, SETTINGS | more), folder / name)


def tune_alone_and_sharded(place: str) -> list[int]:
    """Three samples per step on two ranks: one of them lacks a sample in its second pass.

    The first rank tunes alone before, so that one process fewer imports the libraries; the other waits for it.
    """
    folder = Path(place)
    if os.environ["RANK"] == "0":
        checkpoints.qwen_vl(folder / "base")
        run_tuning(job(folder, "one"), World.alone("cpu"), lambda _: None)
    here = world.start(ParallelConfig(), device="cpu")
    outcome = run_tuning(job(folder, "two"), here, lambda _: None)
    return [outcome.step, here.size]


@pytest.mark.waits
@pytest.mark.exhaustive
def test_two_ranks_take_the_step_of_one_process(tmp_path):
    conversations(tmp_path / "data", 6)
    assert ranks(2, tune_alone_and_sharded, str(tmp_path)) == [[2, 2], [2, 2]]
    one, two = (saved.read_tensors(saved.find_checkpoint(tmp_path / name), "model.") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=1e-5)
    first, second = (read_result(tmp_path / name)["measured"] for name in ("one", "two"))
    assert first["loss"] == pytest.approx(second["loss"], rel=1e-3)
