"""What each clip costs a run: means by noise level, exact after a kill, and the clips that a network cannot learn."""

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from reelwright.model.text import pack_text
from reelwright.training.batch import Batch
from reelwright.training.clip_losses import ALL, FOLDER, NOTE, ClipLosses, by_clip, expected, read_by_clip, written
from reelwright.training.data.mapped import map_table
from reelwright.training.distributed.world import World
from reelwright.training.objectives.base import Loss
from reelwright.training.recipe import TrainRecipe
from tests.training.batches import make_batch
from tests.training.made_up import MadeUp, recipe_of, run
from tests.training.ranks import PRELOADED

BANDS = {"log": {"clip_loss_bands": 2}}


def samples(**columns: list) -> pa.Table:
    count = len(columns["loss"])
    return pa.table({"step": list(range(1, count + 1)), "kind": ["t2v"] * count} | columns)


def rows(table: pa.Table) -> dict[tuple[str, str], dict]:
    return {(row["clip_id"], row["band"]): row for row in table.to_pylist()}


def test_means_by_band_are_those_by_hand() -> None:
    found = rows(by_clip(samples(clip_id=["b", "a", "a", "b"], loss=[1.0, 2.0, 6.0, 3.0], t=[0.1, 0.2, 0.9, 1.0]), 2))
    assert set(found) == {(clip, band) for clip in "ab" for band in ("0.00-0.50", "0.50-1.00", ALL)}
    assert found["a", ALL]["loss"] == 4.0
    assert found["a", "0.50-1.00"]["loss"] == 6.0
    assert found["b", "0.00-0.50"]["draws"] == 1
    assert found["b", ALL]["draws"] == 2
    assert found["a", ALL]["relative"] == pytest.approx(8 / (2 * 3.0))  # fewer samples than NEAREST: the mean of all, 3
    assert (found["a", ALL]["first_step"], found["a", ALL]["last_step"]) == (1, 4)


def test_a_loss_is_compared_with_those_of_like_levels() -> None:
    rng = np.random.default_rng(0)
    t = rng.random(4000)
    clips = rng.integers(0, 40, 4000)
    loss = (1 + 9 * t) * np.where(clips == 7, 1.5, 1.0)  # ten times as high at one end as at the other
    table = samples(clip_id=[f"c{i:02d}" for i in clips], loss=loss.tolist(), t=t.tolist())
    found = rows(by_clip(table, 4))
    relative = {clip: row["relative"] for (clip, band), row in found.items() if band == ALL}
    mean = 1 + 0.5 * (clips == 7).mean()  # of all clips, the seventh among them
    assert relative.pop("c07") == pytest.approx(1.5 / mean, rel=0.02)
    assert max(abs(one - 1 / mean) for one in relative.values()) < 0.02


def test_a_kind_of_one_clip_is_compared_with_the_others_too() -> None:
    loss = np.concatenate([np.ones(100), np.full(50, 9.0)])
    clips = np.concatenate([np.arange(100) % 20, np.full(50, 20)])
    t, kinds = np.full(150, 0.5), (clips == 20).astype(int)
    by_kind = expected(loss, t, kinds, clips)
    everyone = expected(loss, t, np.zeros(150, int), clips)
    assert by_kind[:100].mean() < everyone[:100].mean(), "many clips of a kind are compared among themselves"
    assert by_kind[-1] == pytest.approx(9.0 / 9 + everyone[-1] * 8 / 9), "1 clip of 1 + 8"


def test_a_loss_that_is_no_number_is_counted_and_in_no_mean() -> None:
    found = rows(by_clip(samples(clip_id=["a", "a", "b"], loss=[2.0, float("nan"), float("inf")], t=[0.1] * 3), 1))
    a, b = found["a", ALL], found["b", ALL]
    assert (a["loss"], a["draws"], a["not_finite"], a["relative"]) == (2.0, 1, 1, 1.0)
    assert (b["loss"], b["draws"], b["not_finite"], b["relative"]) == (None, 0, 1, None)


def all_rows(folder: Path) -> list[dict]:
    return [row for _, path in written(folder / FOLDER) for row in read_by_clip(path).to_pylist()]


def write_losses(folder: Path, shares: Sequence[float], dropped: tuple[bool, ...] = ()) -> Path:
    """Write two steps of three samples; each rank of a context group has its share of every loss."""
    for rank, share in enumerate(shares):
        world = World(rank=rank, size=len(shares), context_rank=rank, context_size=len(shares))
        kept = ClipLosses(folder, 2, world)
        for step in range(2):
            batch = replace(make_batch(3, seed=1, step=step), dropped=dropped)
            loss = torch.tensor([1.0, 2.0, 4.0]) * (step + 1) * share
            kept.see(batch, Loss(loss.sum(), loss, torch.tensor([0.1, 0.6, 0.9])))
        kept.write(2)
    ((step, path),) = written(folder / FOLDER)
    assert step == 2
    return path


@pytest.mark.parametrize("shares", [(0.75, 0.25), (0.5, 0.25, 0.25)])
def test_strips_of_a_sample_are_one_draw_with_the_sum_of_their_losses(
    tmp_path: Path, shares: tuple[float, ...]
) -> None:
    whole = read_by_clip(write_losses(tmp_path / "one", [1.0]))
    assert read_by_clip(write_losses(tmp_path / "strips", shares)) == whole
    assert rows(whole)["clip-1-2", ALL]["loss"] == 6.0
    assert rows(whole)["clip-1-2", ALL]["draws"] == 2


def test_samples_without_their_captions_are_a_kind_of_their_own(tmp_path: Path) -> None:
    def kinds(path: Path) -> list[str]:
        table, _ = map_table(path / "rank-00000.arrow", NOTE)
        return table.column("kind").to_pylist()[:3]

    plain = kinds(write_losses(tmp_path / "plain", [1.0]))
    assert len(set(plain)) == 1
    assert "without a caption" not in plain[0]
    mixed = kinds(write_losses(tmp_path / "mixed", [1.0], dropped=(False, True, False)))
    assert mixed == [plain[0], f"{plain[0]} without a caption", plain[0]]


class Dies(MadeUp):
    """No handler sees this end."""

    def batches(self, start_step: int) -> Iterator[Batch]:
        for batch in super().batches(start_step):
            if (batch.step, batch.micro) == (4, 1):
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch


class Told(MadeUp):
    """A signal comes before a step's first micro-batch: the loop gives the step up between the two."""

    def batches(self, start_step: int) -> Iterator[Batch]:
        for batch in super().batches(start_step):
            if (batch.step, batch.micro) == (2, 0):
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch


def _dies(folder: str) -> None:
    torch.set_num_threads(1)
    recipe = recipe_of(**BANDS)
    run(recipe, Path(folder), data=Dies(recipe, World.alone("cpu")))


def test_no_sample_is_lost_or_counted_twice_whatever_ends_a_run(tmp_path: Path) -> None:
    recipe = recipe_of(**BANDS)
    run(recipe, tmp_path / "whole")
    expect = all_rows(tmp_path / "whole")
    assert sum(row["draws"] for row in expect if row["band"] == ALL) == 6 * 2 * 2
    assert [step for step, _ in written(tmp_path / "whole" / FOLDER)] == [2, 4, 6]
    multiprocessing.set_forkserver_preload(PRELOADED)
    process = multiprocessing.get_context("forkserver").Process(target=_dies, args=(str(tmp_path / "killed"),))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    run(recipe, tmp_path / "killed")
    assert all_rows(tmp_path / "killed") == expect
    first = run(recipe, tmp_path / "told", data=Told(recipe, World.alone("cpu")))
    assert first.step == 2
    run(recipe, tmp_path / "told")
    assert all_rows(tmp_path / "told") == expect


def test_samples_of_a_checkpoint_that_was_lost_are_forgotten(tmp_path: Path) -> None:
    recipe, folder = recipe_of(**BANDS), tmp_path / "run"
    run(recipe, folder)
    expect = all_rows(folder)
    (folder / "checkpoints" / "step-00000006" / "checkpoint.json").unlink()
    assert run(recipe, folder).step == 6
    assert all_rows(folder) == expect


def test_whoever_started_the_run_hears_what_is_saved(tmp_path: Path) -> None:
    heard: list[int] = []
    run(recipe_of(steps=4), tmp_path, saved=heard.append)
    assert heard[-1] == 4
    assert heard == sorted(heard)
    heard.clear()
    run(recipe_of(), tmp_path, saved=heard.append)
    assert heard[0] == 4, "a run that goes on says so first"
    assert heard[-1] == 6


def test_without_the_setting_nothing_is_written(tmp_path: Path) -> None:
    run(recipe_of(), tmp_path)
    assert not (tmp_path / FOLDER).exists()


def test_an_objective_without_losses_of_clips_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"log\.clip_loss_bands 4 keeps each clip's loss, but a loss of the obj.* grpo"
    ):
        TrainRecipe.model_validate({
            "objective": {"kind": "grpo", "rewards": {"sharpness_standin": {"weight": 1}}}, "lora": {}, "init": "x",
            "log": {"clip_loss_bands": 4},
        })  # fmt: skip


class Planted:
    """Two scenes of twelve clips, each with a caption of its own; one clip has the other's, one is noise."""

    SCENES, EACH, PER_STEP = 2, 12, 12

    def __init__(self, recipe: TrainRecipe, seed: int) -> None:
        self.recipe = recipe
        made = torch.Generator().manual_seed(seed)
        scenes = torch.randn(self.SCENES, 4, 1, 4, 4, generator=made)
        words = torch.randn(self.SCENES, 4, 8, generator=made)
        scene = torch.arange(self.SCENES).repeat_interleave(self.EACH)
        self.latents = scenes[scene] + 0.2 * torch.randn(len(scene), 4, 1, 4, 4, generator=made)
        self.texts = words[scene].clone()
        self.wrong, self.noise = 3, self.EACH + 5
        self.texts[self.wrong] = words[1]
        self.latents[self.noise] = 1.3 * torch.randn(4, 1, 4, 4, generator=made)
        self.seed = seed

    def batches(self, start_step: int) -> Iterator[Batch]:
        for step in range(start_step, self.recipe.steps):
            rng = torch.Generator().manual_seed(1000 * self.seed + step)
            some = torch.randperm(len(self.latents), generator=rng)[: self.PER_STEP].tolist()
            seeds = [(self.seed + 1) * 10**6 + 100 * step + i for i in range(self.PER_STEP)]
            text = pack_text(list(self.texts[some]), 4)
            yield Batch(self.latents[some], text, "t2i", 0, seeds, [f"{i:02d}" for i in some], len(some), step, 0)

    def validation(self) -> Sequence[Batch]:
        return []


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.every(2)
def test_a_wrong_caption_and_a_clip_of_noise_cost_most(tmp_path: Path, seed: int) -> None:
    recipe = recipe_of(
        steps=300, data={"batches_per_step": 1}, optim={"lr": 3e-3, "warmup_steps": 20, "ema": 0.0},
        checkpoints={"every": 100}, log={"every": 100, "clip_loss_bands": 4}, seed=seed,
    )  # fmt: skip
    data = Planted(recipe, seed)
    run(recipe, tmp_path, data=data)
    _, last = written(tmp_path / FOLDER)[-1]  # of the last hundred steps: what the network has not learned by then
    found = read_by_clip(last)
    high = {row["clip_id"]: row["relative"] for row in found.to_pylist() if row["band"] == "0.75-1.00"}
    two = sorted(high, key=lambda clip: high[clip], reverse=True)[:2]
    assert set(two) == {f"{data.wrong:02d}", f"{data.noise:02d}"}
    assert min(high[clip] for clip in two) > 1.2 * max(value for clip, value in high.items() if clip not in two)
