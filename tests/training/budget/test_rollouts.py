"""What an update by rollouts is planned to take: calls against a real run's, operations against the whole plan's."""

import math
from pathlib import Path

import pytest

from reelwright.pipelines.train.rollout_estimate import rollout_lines
from reelwright.recipe_files import load
from reelwright.training.budget.devices import Peak
from reelwright.training.budget.memory import plan_memory
from reelwright.training.budget.rollouts import DECODER_FLOPS_PER_PX, plan_all, plan_rollouts
from reelwright.training.data.buckets import Bucket, buckets_of
from reelwright.training.recipe import TrainRecipe
from tests.conftest import ROOT
from tests.training.rl.rolling import rolling, save_base, train

TABLE_9 = ROOT / "configs/train/grpo.yaml"


def test_calls_and_videos_are_those_of_a_real_run(tmp_path: Path) -> None:
    recipe = rolling(save_base(tmp_path / "model.safetensors"), {"critical": 1}, steps=1)
    (row,) = train(recipe, tmp_path / "run")
    plan = plan_rollouts(recipe, buckets_of(recipe.data)[0])
    assert plan is not None
    prompts = row["rollout/calls_unshared"] / plan.alone
    assert row["rollout/calls"] == prompts * plan.calls
    assert plan.videos == plan.prompts * 3
    assert plan.passes == plan.prompts * plan.calls * 2


@pytest.mark.parametrize("kind", ["grpo", "nft"])
@pytest.mark.every(2)
def test_the_parts_of_an_update_are_the_whole_of_the_plan(kind: str) -> None:
    given = rolling("base", {"kind": kind} if kind == "grpo" else {"kind": kind, "beta": 0.0})
    bucket = buckets_of(given.data)[-1]
    plan, whole = plan_rollouts(given, bucket), plan_memory(given, bucket=bucket, device="cpu")
    assert plan is not None
    assert plan.flops["decoding"] == 0  # the stand-in's decoder has no network
    assert math.isclose(sum(plan.flops.values()), whole.flops, rel_tol=1e-6)
    assert plan.flops["reference"] > 0
    seconds = plan.seconds(mfu=0.5, peak_flops=1e12, ranks=4)
    assert math.isclose(sum(seconds.values()), sum(plan.flops.values()) / 2e12)


def test_the_report_s_table_9_at_full_size() -> None:
    recipe = load(TrainRecipe, TABLE_9)
    small, large = plan_all(recipe)
    assert (small.bucket, large.bucket) == (Bucket(93, 480, 832), Bucket(93, 784, 1184))
    for plan in (small, large):
        assert (plan.prompts, plan.videos, plan.calls, plan.alone, plan.passes) == (64, 256, 53.5, 64, 6848)
    assert sum(small.flops.values()) == pytest.approx(1.44666e19, rel=1e-4)
    assert sum(large.flops.values()) == pytest.approx(5.85853e19, rel=1e-4)
    assert large.video_bytes * large.videos / 2**30 == pytest.approx(61.7, abs=0.05)

    lines = "\n".join(rollout_lines(recipe, gpus=8, peak=Peak("", 989.5, ""), mfu=0.35))
    assert "53.5 guided calls per group in place of 64 without sharing" in lines
    assert "held out      aesthetics: 1 process of its own, 8 per call" in lines
    assert "reward        hpsv3_general: 1 process of its own, 1 GPUs each" in lines
    assert "reward        videoalign_vq: 1 process of its own, 1 GPUs each" in lines
    assert "reward        videoalign_ta: by the same pass as videoalign_vq, 4 per call" in lines
    assert "rewards       need 3 GPUs beside the 8 of the ranks, 11 in all" in lines
    assert "hpsv3_percentile       256    23,808     336.8     972.5 s                14.4 GiB" in lines
    assert "videoalign_vq          256       256       4.2      12.2 s                 4.1 GiB" in lines
    assert "  videoalign_ta  " not in lines  # the same forward
    assert "14,466.6    5,221.5 s      652.7 s  rollouts 93%, decoding 1%, reference 2%, training 5%" in lines
    assert "on 64 GPUs are not waited for where one video takes a reward's processes together less than 9.61 s" in lines
    mini = load(TrainRecipe, ROOT / "configs/train/mini/grpo.yaml")
    assert " 0.0 s" not in "\n".join(rollout_lines(mini, gpus=1, peak=Peak("", 989.5, ""), mfu=0.35))
    assert not list(rollout_lines(TrainRecipe(), gpus=8, peak=Peak("", 989.5, ""), mfu=0.35))


def test_a_reward_of_some_videos_or_frames_or_of_more_processes_is_planned_for_those() -> None:
    import yaml

    raw = yaml.safe_load(TABLE_9.read_text())
    use = raw["objective"]["rewards"]["hpsv3_general"]
    use |= {"tasks": ["i2v"], "processes": 2, "parameters": use["parameters"] | {"stride": 8}}
    recipe = TrainRecipe.model_validate(raw | {"tasks": {"t2v": 3, "i2v": 1}})
    lines = "\n".join(rollout_lines(recipe, gpus=64, peak=Peak("", 989.5, ""), mfu=0.35))
    assert "hpsv3_general           64       768      10.9      15.7 s" in lines
    assert "rewards       need 4 GPUs beside the 64 of the ranks, 68 in all" in lines


def test_a_rollout_s_memory_is_planned_and_grows_with_what_is_made_at_once() -> None:
    def planned(**objective: object) -> int:
        return plan_memory(rolling("base", {"kind": "grpo", **objective}), device="cpu").sampling

    assert planned(group=8) > planned(group=8, videos_at_once=2) > 0


@pytest.mark.exhaustive
def test_the_decoder_s_operations_are_those_of_the_published_classes() -> None:
    import torch
    from diffusers import AutoencoderKLWan
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.flop_counter import FlopCounterMode

    with FakeTensorMode(), torch.no_grad(), FlopCounterMode(display=False) as counted:
        video = AutoencoderKLWan().eval().decode(torch.empty(1, 16, 9, 8, 8)).sample
    found = counted.get_total_flops() / (video.numel() / 3)
    assert found == pytest.approx(DECODER_FLOPS_PER_PX, rel=0.02)
