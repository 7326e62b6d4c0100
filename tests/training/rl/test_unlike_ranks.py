"""Ranks that reach different rewards under one name do not train together."""

from typing import Any

from reelwright.training.distributed.world import start
from reelwright.training.errors import TrainError
from reelwright.training.recipe import ParallelConfig
from reelwright.training.rewards.in_process import InProcess
from reelwright.training.rewards.registry import load
from reelwright.training.rl.identity import refuse_unlike_ranks
from tests.training.ranks import ranks
from tests.training.rewards.made_up import Level
from tests.training.rewards.test_service import Running


def told(batch: int) -> dict[str, Any]:
    """What a rank's scorer tells of a service that it reaches, and of a reward in its own process."""
    serving = Running(Level(batch=batch))
    try:
        far = load("service", {"url": serving.url, "timeout_s": 20.0, "patience_s": 0.0, "attempts": 1})
        scorer = InProcess({"near": load("smoothness_standin", {}), "far": far})
        found = scorer.describe()
        scorer.close()
        return found
    finally:
        serving.stop()


def on_rank(of_second: int) -> str:
    """Meet the other rank; each has a service of its own, the second one's rewards have this batch."""
    world = start(ParallelConfig(), device="cpu")
    try:
        refuse_unlike_ranks(told(of_second if world.rank else 8), world)
    except TrainError as error:
        return str(error)
    return ""


def test_a_rank_whose_service_serves_another_reward_ends_all_of_them() -> None:
    assert ranks(2, on_rank, 8) == ["", ""]
    first, second = ranks(2, on_rank, 7)
    assert first.startswith("another rank has other rewards than the first one")
    assert second.startswith("rank 1 has another reward for far than the first (")
