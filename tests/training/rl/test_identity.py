"""What a checkpoint tells of rewards: a resumed run has the same ones, and no judge is one that is optimised."""

from pathlib import Path
from typing import Any

import pytest

from reelwright.training.errors import TrainError
from reelwright.training.rewards.in_process import InProcess
from reelwright.training.rewards.registry import load
from reelwright.training.rl.config import RolloutConfig
from reelwright.training.rl.identity import doubts, refuse_judges_of_themselves
from tests.pipelines.sample_rewards import serving
from tests.training.rewards.made_up import Level
from tests.training.rl.rolling import NAMED, OTHER

HERE = Path("runs/x/checkpoints/step-1")


def told_by(config: RolloutConfig) -> dict[str, Any]:
    """What the run of such rewards, loaded in this process, writes into its checkpoints."""
    scorer = InProcess(config.load_rewards())
    found = config.origins(scorer)
    scorer.close()
    return found


def far(url: str, **more: Any) -> dict[str, Any]:
    return {"kind": "service", "parameters": {"url": url, "patience_s": 0.0, **more}}


@pytest.mark.waits
def test_a_checkpoint_names_the_reward_behind_a_service_and_a_resumed_run_takes_no_other() -> None:
    with serving(Level(batch=8)) as one, serving(Level(batch=7)) as other:
        first, second = (RolloutConfig(rewards={"far": far(url)}) for url in (one, other))
        saved, now = told_by(first), told_by(second)
    assert saved["rewards"]["far"]["served"] == Level(batch=8).describe()
    assert saved["rewards"]["far"]["fingerprint"] == now["rewards"]["far"]["fingerprint"]
    first.refuse_changed(saved, saved, HERE)
    first.refuse_changed(first.origins(), saved, HERE)  # a checkpoint of before says nothing of it
    was, here = Level(batch=8).fingerprint, Level(batch=7).fingerprint
    with pytest.raises(TrainError, match=f"another reward than its service gives now \\({here} in place of {was}"):
        second.refuse_changed(saved, now, HERE)
    first.refuse_state(saved, saved, HERE)
    with pytest.raises(TrainError, match=f"remembers the rewards far {was[:6]}, and this recipe has far {here[:6]}"):
        second.refuse_state(saved, now, HERE)


@pytest.mark.waits
def test_a_held_out_reward_behind_a_service_is_none_that_is_optimised() -> None:
    sharp = load("sharpness_standin", {})
    with serving(sharp) as one, serving(sharp) as other, serving(Level()) as third:
        refused = [
            {"rewards": {"sharp": NAMED}, "held_out": {"far": far(one)}},
            {"rewards": {"near": far(other)}, "held_out": {"far": far(one)}},
            {"rewards": {"near": far(other, expects=sharp.fingerprint)}, "held_out": {"sharp": NAMED}},
        ]
        for uses in refused:
            config = RolloutConfig(**uses)
            with pytest.raises(TrainError, match="is the same reward as .* hold out another one"):
                config.remarks(told_by(config))
        config = RolloutConfig(rewards={"near": far(third)}, held_out={"far": far(one)})
        assert config.remarks(told_by(config)) == []
        assert config.remarks(config.origins()) == []  # of two services that nobody has asked, nothing is known


def told(name: str, *models: str, held: bool = False, fingerprint: str = "") -> dict[str, Any]:
    use = "held out" if held else {"weight": 1.0}
    return {"name": name, "fingerprint": fingerprint or name, "models": list(models), "use": use}


def test_a_held_out_reward_that_reads_an_optimised_one_s_model_is_doubted() -> None:
    rewards = {"vq": told("videoalign_vq", "v#1", "base#1"), "mq": told("videoalign_mq", "v#1", "base#1", held=True)}
    (line,) = doubts(rewards)
    assert line.startswith("held-out reward mq reads the same model as vq: ")
    judges = {"a": told("judge", "one@main", "prompt#1"), "b": told("judge", "two@main", "prompt#1", held=True)}
    assert doubts(judges) == []  # the prompt that both are asked by is no model
    assert doubts({"a": told("x"), "b": told("y", held=True)}) == []
    with pytest.raises(TrainError, match=r"held_out\.b is the same reward as rewards\.a, y f"):
        refuse_judges_of_themselves({"a": told("x", fingerprint="f"), "b": told("y", held=True, fingerprint="f")})


def test_the_recipe_of_one_reward_on_both_sides_is_refused_as_it_is_read() -> None:
    with pytest.raises(ValueError, match=r"held_out\.b is the same reward as rewards\.a"):
        RolloutConfig(rewards={"a": NAMED}, held_out={"b": NAMED})
    RolloutConfig(rewards={"a": NAMED}, held_out={"b": OTHER, "c": {**NAMED, "parameters": {"height": 99}}})
