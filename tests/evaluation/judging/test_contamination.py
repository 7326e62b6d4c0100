"""A model is not judged by what it learned from, however that is recorded."""

from pathlib import Path
from typing import Any

import pytest
import torch

from reelwright.evaluation.errors import EvaluationError
from reelwright.evaluation.judging.contamination import is_same, learned_from, refuse_learned
from reelwright.evaluation.judging.recipe import ASPECTS, JudgeRecipe
from reelwright.evaluation.rating.scales import is_asked
from reelwright.training.checkpoints import Checkpoints
from reelwright.training.rewards.registry import load

QWEN = {"checkpoint": "elsewhere", "base": "elsewhere"}


def checkpoint(folder: Path, **about: Any) -> Path:
    kept = Checkpoints(folder / "checkpoints", 1)
    kept.save(1, {"model.w": torch.zeros(2)}, about)
    kept.wait()
    return folder


def use(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "models": [], "use": {"weight": 1.0}} | more


def test_rewards_of_a_run_its_parents_and_its_adapters_count_and_held_out_ones_do_not(tmp_path: Path) -> None:
    parent = {"path": "runs/parent", "recipe": {"objective": {"rewards": {"align": {"kind": "videoalign_ta"}}}}}
    adapter = {"path": "runs/adapter", "recipe": {"objective": {"rewards": {"sharpness_standin": {"weight": 1}}}}}
    run = checkpoint(
        tmp_path / "run", parent=parent, adapters={"default": adapter},
        rewards={"hps": use("hpsv3_general"), "seen": use("blur", use="held out")},
    )  # fmt: skip
    assert {one["name"] for one in learned_from(run)} == {"hpsv3_general", "videoalign_ta", "sharpness_standin"}
    exported = [{"objective": {"kind": "grpo", "rewards": {"hps": {"kind": "hpsv3_percentile"}}}}]
    assert [one["name"] for one in learned_from(tmp_path, exported)] == ["hpsv3_percentile"]
    behind = {"name": "tuned", "models": ["m#1"]}
    served = checkpoint(tmp_path / "served", rewards={"far": use("service", served=behind)})
    assert learned_from(served) == [{"label": "far", "name": "tuned", "models": ["m#1"]}]
    assert learned_from(checkpoint(tmp_path / "plain", recipe={"objective": {"kind": "flow"}})) == []


def test_one_model_behind_two_names_is_the_same() -> None:
    percentile = load("hpsv3_percentile", QWEN)
    assert is_same(percentile, {"label": "x", "name": "hpsv3_general", "models": ["other#1"]})
    assert not is_same(percentile, {"label": "x", "name": "videoalign_mq", "models": []})
    judge = JudgeRecipe(judge={"chat": {"model": "m", "url": "http://h/v1"}}).judges()["overall"]
    assert is_same(judge, {"label": "j", "name": "judge", "models": list(judge.models)})
    prompt = judge.models[-1]
    assert not is_same(judge, {"label": "j", "name": "judge", "models": ["another-model", prompt]})
    with pytest.raises(EvaluationError, match="cannot judge tuned"):
        refuse_learned({"taste": percentile}, {"base": [], "tuned": [use("hpsv3_general", label="hps")]})
    refuse_learned({"taste": percentile}, {"base": []})


def test_the_judge_s_dimensions_are_the_report_s_and_one_needs_a_picture() -> None:
    judges = JudgeRecipe(judge={"chat": {"model": "m", "url": "http://h/v1"}}).judges()
    assert set(judges) == {*ASPECTS, "image_alignment"}
    assert len({one.fingerprint for one in judges.values()}) == len(judges)
    assert [name for name in judges if not is_asked(name, "t2v", "a dog")] == ["image_alignment"]
    assert [name for name in judges if not is_asked(name, "i2v", " ")] == ["text_alignment"]
    with pytest.raises(EvaluationError, match="lowest"):
        JudgeRecipe(judge={"chat": {"model": "m", "url": "http://h/v1"}, "lowest": 9}).judges()
    with pytest.raises(EvaluationError, match="is no name of a dimension"):
        JudgeRecipe(judge={"chat": {"model": "m", "url": "http://h/v1"}}, dimensions={"it's": "how odd"}).judges()
