"""The whole loop on two ranks: shards or strips, averages, validation, checkpoints; gone on with by one process."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from reelwright.model.dit import DiT
from reelwright.training import stopping
from reelwright.training.batch import Batch
from reelwright.training.checkpoints import find_checkpoint, read_metadata
from reelwright.training.clip_losses import FOLDER, read_by_clip, written
from reelwright.training.distributed.parallel import parallelize
from reelwright.training.distributed.world import start
from reelwright.training.logs import read_log
from reelwright.training.loop import Hooks, Trainer
from tests.training.made_up import ABOUT, MadeUp, recipe_of, run
from tests.training.ranks import ranks

LAYOUTS = {"fsdp": {}, "zero2": {"reshard_after_forward": False}, "ring": {"context": 2, "context_form": "ring"}}
STEPS = {"data": {"batches_per_step": 4}, "log": {"clip_loss_bands": 2}}


class OneIsTold(MadeUp):
    """In the fifth step's first micro-batch the second rank has a signal; the first has none."""

    def batches(self, start_step: int) -> Iterator[Batch]:
        for batch in super().batches(start_step):
            if (batch.step, batch.micro) == (4, 1):
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch


def test_four_steps_of_two_and_two_alone_are_six_alone(tmp_path: Path) -> None:
    whole = run(recipe_of(**STEPS), tmp_path / "whole")
    ranks(2, _four_steps, str(tmp_path))
    for name in LAYOUTS:
        folder = tmp_path / name
        assert read_metadata(find_checkpoint(folder))["world"]["ranks"] == 2
        rest = run(recipe_of(**STEPS), folder)
        assert rest.finished
        assert rest.metrics == pytest.approx(whole.metrics, rel=1e-5)
        expect, found = ([row["loss"] for row in read_log(at) if "loss" in row] for at in (tmp_path / "whole", folder))
        assert len(found) == 6
        assert found == pytest.approx(expect, rel=1e-5)
        assert clip_losses(folder) == clip_losses(tmp_path / "whole"), "each sample once, and strips put together"


def clip_losses(folder: Path) -> list[tuple]:
    """Rows of all checkpoints, with losses to five digits."""
    rows = [row for _, path in written(folder / FOLDER) for row in read_by_clip(path).to_pylist()]
    return [tuple(float(f"{v:.4g}") if isinstance(v, float) else v for v in row.values()) for row in rows]


def _four_steps(folder: str) -> None:
    for name, parallel in LAYOUTS.items():
        told = name == "zero2"  # all ranks then give the fifth step up, where they ask within a step
        stopping.ASK_S = 0.0
        recipe = recipe_of(parallel=parallel, steps=6 if told else 4, **STEPS)
        world = start(recipe.parallel, device="cpu")
        model = parallelize(DiT(recipe.model).init_weights(recipe.seed), recipe.parallel, recipe.compute, world)
        data, place = (OneIsTold if told else MadeUp)(recipe, world), Path(folder) / name
        outcome = Trainer(
            recipe=recipe, data=data, model=model, world=world, folder=place, metadata=ABOUT, hooks=Hooks(say=str)
        ).run()
        assert (outcome.step, outcome.signal) == (4, signal.SIGTERM if told else 0)
