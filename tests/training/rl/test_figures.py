"""Figures of rollouts in a log, by hand: scores, failures, calls, seconds, and what a recipe counts beforehand."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from reelwright.training.distributed.world import World
from reelwright.training.errors import TrainError
from reelwright.training.rewards.contract import Score, Unscored
from reelwright.training.rl.advantages import Advantages, advantages
from reelwright.training.rl.config import RolloutConfig
from reelwright.training.rl.figures import Tally, averaged, score_figures
from reelwright.training.rl.scores import ScoreTable, gathered, refuse_failures
from tests.training.rl.rolling import NAMED, OTHER

ALONE = World.alone("cpu")
LABELS = ("a", "b")
FAILED = Unscored("too round")
MINE: Mapping[int, Mapping[str, Score]] = {
    0: {"a": 1.0, "b": 5.0}, 1: {"a": 5.0, "b": FAILED}, 2: {"a": FAILED, "b": 7.0},
    6: {"a": 2.0}, 7: {"a": FAILED}, 8: {"a": FAILED},
}  # fmt: skip
"""Two groups of three in rows of three groups; nobody asks `b` about the second."""


def table() -> tuple[ScoreTable, Advantages, torch.Tensor]:
    made = gathered(MINE, LABELS, 9, ALONE)
    groups = made.rows // 3
    return made, advantages(groups, made.scores, made.scored, [1.0, 0.0], eps=0.0), groups


def test_a_table_has_a_row_per_sample_that_somebody_made() -> None:
    made, _, _ = table()
    assert made.rows.tolist() == [0, 1, 2, 6, 7, 8]
    assert made.scores.tolist() == [[1, 5], [5, 0], [0, 7], [2, 0], [0, 0], [0, 0]]
    assert made.scored.tolist() == [[1, 1], [1, 0], [0, 1], [1, 0], [0, 0], [0, 0]]
    assert made.asked.tolist() == [[1, 1]] * 3 + [[1, 0]] * 3
    assert made.failed.tolist() == [3, 1]


def test_a_step_s_scores_by_reward() -> None:
    made, found, groups = table()
    told = score_figures(LABELS, ("a",), made, found, groups)
    assert (told["reward/a"], told["held_out/b"]) == pytest.approx((8 / 3, 6))
    assert (told["reward/a/failed"], told["held_out/b/failed"]) == (3, 1)
    assert told["reward/a/largest_std"] == told["held_out/b/largest_std"] * 2 == 2  # of 1 and 5, of 5 and 7
    assert (told["reward/a/group_std"], told["held_out/b/group_std"]) == (1, 1)  # one group of `a` has one score: 0
    assert (told["reward/a/left_out"], told["held_out/b/left_out"]) == (1, 0)  # the other was not asked
    assert told["advantage/size"] == pytest.approx(2 / 6)  # -1 and 1, and four that count for nothing
    assert told["advantage/zero"] == pytest.approx(4 / 6)
    assert told["advantage/clipped"] == 0
    nobody = score_figures(("b",), (), *(_of_second_group(made, groups)))
    assert math.isnan(nobody["held_out/b"])


def _of_second_group(made: ScoreTable, groups: torch.Tensor) -> tuple[ScoreTable, Advantages, torch.Tensor]:
    part = ScoreTable(made.rows[3:], made.scores[3:, 1:], made.scored[3:, 1:], made.asked[3:, 1:])
    return part, advantages(groups[3:], part.scores, part.scored, [1.0]), groups[3:]


def test_failures_stop_a_run_from_just_above_the_share_that_may_fail() -> None:
    made, _, _ = table()
    refuse_failures(made, LABELS, 0.5, {})
    with pytest.raises(TrainError, match=r"reward 'a' failed for 3 of 6 videos .* such as: too round; .*\(now 0\.49\)"):
        refuse_failures(made, LABELS, 0.49, {"a": "too round"})
    with pytest.raises(TrainError, match=r"'b' failed for 1 of 3 .* \(another rank's log says why\)"):
        refuse_failures(ScoreTable(made.rows, made.scores, made.scored | torch.tensor([[True, False]]), made.asked),
                        LABELS, 0.3, {"a": "too round"})  # fmt: skip


@dataclass
class Timed:
    """A scorer whose clocks are given."""

    told: dict[str, float] = field(default_factory=dict)

    def figures(self) -> dict[str, float]:
        return self.told


def test_a_tally_tells_what_came_since_it_was_read() -> None:
    tally, paths, scorer = Tally(), SimpleNamespace(calls=10, alone=16), Timed()

    def read() -> dict[str, float]:
        given: Any = paths, scorer
        return tally.read(*given, LABELS, ALONE)

    with tally.timing("decode_s"):
        time.sleep(0.02)
    first = read()
    began = time.perf_counter()
    assert (first["rollout/calls"], first["rollout/calls_unshared"]) == (10, 16)
    assert 0.02 <= first["rollout/decode_s"] < 0.2
    assert first["rollout/network_s"] == first["rollout/wait_s"] == 0
    assert "rollout/training_s" not in first
    assert first["scoring/slowest_idle_share"] == 0
    paths.calls, paths.alone = 13, 24
    scorer.told = {"busy_s": 5.0, "idle_s": 4.0, "restarts": 2.0, "a/busy_s": 1.0, "a/idle_s": 3.5, "b/busy_s": 4.0,
                   "b/idle_s": 0.5, "b/restarts": 1.0}  # fmt: skip
    for _ in range(2):
        with tally.timing("network_s"):
            time.sleep(0.02)
    time.sleep(0.03)
    second = read()
    whole = time.perf_counter() - began
    assert (second["rollout/calls"], second["rollout/calls_unshared"]) == (3, 8)
    parts = [second[f"rollout/{name}"] for name in ("network_s", "decode_s", "wait_s", "training_s")]
    assert parts[0] >= 0.04
    assert parts[1] == 0
    assert parts[3] >= 0.03
    assert sum(parts) == pytest.approx(whole, abs=0.01)
    assert {f"scoring/{name}": value for name, value in scorer.told.items()}.items() <= second.items()
    assert second["scoring/a/restarts"] == 0
    assert second["scoring/slowest_idle_share"] == pytest.approx(0.5 / 4.5)  # of `b`, which was busy longest


def test_steps_are_averaged_and_failures_added_up() -> None:
    steps = [
        {"reward/a": 1.0, "reward/a/failed": 2.0, "scoring/a/restarts": 1.0, "reward/b": math.nan},
        {"reward/a": 4.0, "reward/a/failed": 0.0, "reward/a/left_out": 3.0, "reward/b": math.nan},
        {"reward/a": math.nan, "reward/a/failed": 5.0},
    ]
    found = averaged(steps)
    assert math.isnan(found.pop("reward/b"))
    assert found == {"reward/a": 2.5, "reward/a/failed": 7, "scoring/a/restarts": 1, "reward/a/left_out": 3}


@pytest.mark.parametrize(("group", "steps", "critical"), [(4, 16, 6), (3, 5, 4), (2, 8, 1)])
def test_calls_of_a_group_are_the_mean_over_its_stochastic_step(group: int, steps: int, critical: int) -> None:
    config = RolloutConfig(rewards={"a": NAMED}, group=group, steps=steps, critical=critical)
    ways = [(k + 1) + group * (steps - 1 - k) for k in range(critical)]  # one way up to the step, `group` from there
    assert config.rollout_calls == config.shared_calls == pytest.approx(sum(ways) / critical)
    made = config.videos_made
    assert (made.calls, made.alone) == (config.rollout_calls, group * steps)


def test_a_line_of_a_step_shows_rewards_means_that_are_numbers() -> None:
    config = RolloutConfig(rewards={"a": NAMED}, held_out={"b": OTHER})
    shown = {"loss": 1.0, "kl": math.nan, "reward/a": 1.0, "held_out/b": -1.0}
    hidden = {"reward/a/failed": 1.0, "rollout/calls": 3.0, "meter/motion": 0.1, "reward/b": math.nan}
    assert all(config.shows(name, value) for name, value in shown.items())
    assert not any(config.shows(name, value) for name, value in hidden.items())
