"""Meters of hacking against the start, and the rule that ends a run whose rewards are cheated."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from reelwright.training.checkpoints import Checkpoints, read_metadata
from reelwright.training.distributed.world import World, start
from reelwright.training.errors import StoppedByRule
from reelwright.training.recipe import ParallelConfig
from reelwright.training.rewards.contract import Reward, Score, Video
from reelwright.training.rewards.in_process import InProcess
from reelwright.training.rl.config import RolloutConfig
from reelwright.training.rl.hacking import AgainstStart, measured, picture_meters
from reelwright.training.rl.stop_rule import StopRule
from reelwright.training.rl.stop_settings import StopSettings
from reelwright.training.rl.watch import Watch
from tests.training.ranks import ranks
from tests.training.rl.rolling import NAMED, OTHER, Brightness, Clips, Redness, rolling, save_base, train

ALONE = World.alone("cpu")


def film(*frames: np.ndarray, given: int = 0) -> Video:
    return Video(np.stack(frames), 8.0, "", given)


def plain(red: int, green: int, blue: int) -> np.ndarray:
    return np.full((8, 8, 3), (red, green, blue), np.uint8)


def test_each_meter_moves_with_what_it_is_named_after() -> None:
    grey, red = plain(100, 100, 100), plain(200, 0, 0)
    assert picture_meters(film(grey, grey)).tolist() == pytest.approx([0, 100 / 255, 0, 0])
    assert picture_meters(film(red, red))[0] == pytest.approx(200 / 200)
    assert picture_meters(film(grey, plain(151, 151, 151)))[2] == pytest.approx(51 / 255)
    board = np.indices((8, 8)).sum(0) % 2 * 255
    sharp = np.repeat(board[..., None], 3, -1).astype(np.uint8)
    assert picture_meters(film(sharp, sharp))[3] > 1e5
    assert picture_meters(film(red, grey, grey, given=1))[0] == 0  # given frames are not of the policy's making
    assert np.isnan(picture_meters(film(grey))[2])


def test_of_a_long_video_eight_frames_are_measured_each_with_the_one_after_it() -> None:
    """Of 30 frames the 1st, 5th, … 29th, each 8 lighter than the last; the frame after each is 5 lighter than it."""
    frames = [plain(*[2 * i + 3 * (i % 2)] * 3) for i in range(30)]
    _, brightness, motion, _ = picture_meters(film(*frames)) * 255
    assert brightness == pytest.approx(np.mean([8 * k for k in range(8)]))
    assert motion == pytest.approx(5)
    assert picture_meters(film(*frames[:3]))[1] * 255 == pytest.approx(2.5)  # of three, the two that have a next one


def test_meters_are_told_against_the_first_steps_and_a_step_that_is_made_again_counts_once() -> None:
    meters = AgainstStart()
    for step, level in enumerate([100, 110, 110, 120, 120]):
        first = meters.figures(step, measured([film(plain(level, level, level)), None]), ALONE)
        again = meters.figures(step, measured([film(plain(level, level, level))]), ALONE)
        assert again == first
    assert "meter/motion" not in first
    now = meters.figures(9, measured([film(plain(168, 168, 168))]), ALONE)
    assert now["meter/brightness"] == pytest.approx(168 / 255)
    assert now["meter/brightness_change"] == pytest.approx(168 / 112 - 1)


def shown(rule: StopRule, trained: np.ndarray, held: np.ndarray) -> int | None:
    """Show a rule the rewards of a run; return the step that it ended."""
    for step, (a, b) in enumerate(zip(trained, held, strict=True)):
        try:
            rule.observe(step, {"reward/a": a, "held_out/b": b})
        except StoppedByRule:
            return step
    return None


def rule(**settings: float) -> StopRule:
    return StopRule(StopSettings.model_validate(settings), {"a": 1.0}, ["b"])


@pytest.mark.parametrize("seed", range(8))
def test_a_run_ends_where_the_held_out_reward_falls_as_the_trained_one_rises(seed: int) -> None:
    noise = np.random.default_rng(seed).normal(0, 0.1, (2, 300))
    turn = np.concatenate([np.zeros(100), np.arange(200) * 0.01])
    stopped = shown(rule(), turn + noise[0], noise[1] - turn)
    assert stopped is not None
    assert 100 < stopped < 200
    assert shown(rule(), turn + noise[0], turn + noise[1]) is None  # both rise
    assert shown(rule(), noise[0] - turn, noise[1] - turn) is None  # both fall: no cheating
    assert shown(rule(), turn + noise[0], noise[1]) is None  # nothing but noise
    assert shown(rule(fall=0), turn + noise[0], noise[1] - turn) is None


def test_a_rule_that_is_filled_from_a_checkpoint_ends_at_the_same_step() -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, (2, 200))
    trained, held = np.arange(200) * 0.01 + noise[0], noise[1] - np.arange(200) * 0.01
    held[7] = np.nan
    expect = shown(rule(window=10), trained, held)
    assert expect is not None
    at = expect - 3
    first, second = rule(window=10), rule(window=10)
    assert shown(first, trained[:at], held[:at]) is None
    first.observe(at, {"reward/a": trained[at], "held_out/b": held[at]})  # is saved in the midst of this step
    for name, tensor in first.tensors().items():
        second.tensors()[name].copy_(tensor)
    for step in range(at, expect):
        second.observe(step, {"reward/a": trained[step], "held_out/b": held[step]})
    with pytest.raises(StoppedByRule, match=rf"'b' has fallen from .* at step {expect + 1}, while the trained rewards"):
        second.observe(expect, {"reward/a": trained[expect], "held_out/b": held[expect]})


@dataclass(frozen=True)
class Rising(Reward):
    """A number that rises, or falls, with the calls; what a policy that cheats would get."""

    by: float = 1.0
    name, version = "rising", 1

    def __call__(self, videos: Sequence[Video]) -> list[Score]:
        calls = self.__dict__["calls"] = self.__dict__.get("calls", 0) + 1
        return [self.by * calls] * len(videos)


def test_a_run_that_its_rule_ends_is_saved_and_goes_on_where_the_rule_is_eased(tmp_path: Path) -> None:
    base = save_base(tmp_path / "model.safetensors")
    told = {"rewards": {"up": NAMED}, "held_out": {"down": OTHER}}
    strict = {**told, "stop": {"window": 2, "fall": 1, "patience": 1}}
    shape = {"steps": 9, "checkpoints": {"every": 100}, "data": {"batches_per_step": 2}}

    def rewards() -> InProcess:
        return InProcess({"up": Rising(), "down": Rising(-1.0)})

    recipe = rolling(base, strict, **shape)
    with pytest.raises(StoppedByRule, match=r"held-out reward 'down' has fallen .* rose \(up "):
        train(recipe, tmp_path / "run", rewards=rewards())
    saved = Checkpoints(tmp_path / "run" / "checkpoints", 9).latest()
    assert saved is not None
    at = read_metadata(saved)["step"]
    assert 2 <= at < 9
    eased = rolling(base, {**told, "stop": {"fall": 0}}, **shape)
    assert eased.fingerprint == recipe.fingerprint
    rows = train(eased, tmp_path / "run", rewards=rewards())
    assert rows[-1]["step"] == 9


def verdicts() -> list[str]:
    """Show each rank other figures: first the second rank's alone would end the run, then the first's alone."""
    world = start(ParallelConfig(), device="cpu")
    config = rolling("base", {"rewards": {"up": NAMED}, "held_out": {"down": OTHER}, "stop": HASTY}).objective
    assert isinstance(config, RolloutConfig)
    told = []
    for cheated in (1, 0):
        watch = Watch(config)
        sign = -1.0 if world.rank == cheated else 1.0
        told.append("")
        for step in range(9):
            try:
                watch.check(step, {"reward/up": float(step), "held_out/down": sign * step}, world)
            except StoppedByRule as stopped:
                told[-1] = str(stopped)
                break
    return told


HASTY = {"window": 2, "fall": 1, "patience": 1}


def test_the_first_rank_s_rule_ends_the_run_on_every_rank() -> None:
    first, second = ranks(2, verdicts)
    assert first == second
    assert first[0] == ""
    assert "'down' has fallen" in first[1]


def test_a_log_tells_rewards_in_its_lines_and_all_figures_in_its_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from reelwright.training.loop import Hooks, Trainer
    from reelwright.training.run import build
    from tests.training.made_up import ABOUT

    recipe = rolling(save_base(tmp_path / "model.safetensors"), {"held_out": {"eye": OTHER}}, steps=1)
    said: list[str] = []
    model, _ = build(recipe, ALONE)
    scorer = InProcess({"brightness": Brightness(), "redness": Redness(fails=True), "eye": Brightness()})
    Trainer(
        recipe=recipe, data=Clips(recipe, ALONE), model=model, world=ALONE, folder=tmp_path / "run", metadata=ABOUT,
        hooks=Hooks(say=said.append, scorer=scorer),
    ).run()  # fmt: skip
    scorer.close()
    (line,) = [line for line in said if line.startswith("step 1/1")]
    assert all(f"  {name} " in line for name in ("reward/brightness", "reward/redness", "held_out/eye", "ratio", "kl"))
    assert "group_std" not in line
    from reelwright.training.logs import read_log

    (row,) = [row for row in read_log(tmp_path / "run") if "loss" in row]
    assert row["held_out/eye"] == row["reward/brightness"]
    assert row["reward/redness/failed"] > 0
    assert row["meter/brightness_change"] == 0
    assert row["meter/brightness"] == pytest.approx(row["reward/brightness"], abs=0.05)
    assert {"meter/saturation", "meter/motion", "meter/sharpness", "reward/redness/group_std"} <= row.keys()
    assert 0 <= row["scoring/slowest_idle_share"] < 1
    assert torch.isfinite(torch.tensor([row["kl"], row["clipped"]])).all()
